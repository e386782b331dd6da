"""The body of `POST /v1/batches`."""

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.domain.egress import EgressPolicy
from app.errors import FieldError
from app.intake.file_request import MAX_EXPIRY_S, MIN_EXPIRY_S
from app.intake.request import Metadata
from app.intake.shapes import Part, Text, Url, invalid, read_as

MAX_WINDOW_S = 7 * 86_400

_WINDOW = re.compile(r"([1-9][0-9]{0,4})([mhd])")
_UNIT_S = {"m": 60, "h": 3600, "d": 86_400}


def window_s(window: str) -> int:
    """How many seconds a completion window is. Raises `ValueError` if it is none."""
    found = _WINDOW.fullmatch(window)
    seconds = int(found[1]) * _UNIT_S[found[2]] if found else 0
    if not 0 < seconds <= MAX_WINDOW_S:
        raise ValueError("must be minutes, hours or days, as in 30m, 24h or 7d, and seven days at most")
    return seconds


def _window(text: str) -> str:
    try:
        window_s(text)
    except ValueError as error:
        raise PydanticCustomError("bad_format", "{reason}", {"reason": str(error)}) from None
    return text


class OutputExpiresAfter(Part):
    """For how long the output files are kept."""

    anchor: Literal["created_at"] = Field(description="From when a file is made.")
    seconds: int = Field(ge=MIN_EXPIRY_S, le=MAX_EXPIRY_S)


class BatchRequest(Part):
    """Which lines to run, and how. A member that is null counts as absent."""

    input_file_id: Text | None = Field(
        None, description="A file of purpose `batch`, a request a line. Or send `requests`."
    )
    requests: list[dict[str, Any]] | None = Field(
        None,
        min_length=1,
        description="The lines of the file, which is then made of them. Or send `input_file_id`.",
    )
    endpoint: Literal["/v1/jobs", "/v1/embeddings"] = Field(description="The `url` of every line.")
    completion_window: Annotated[
        str,
        AfterValidator(_window),
        WithJsonSchema({"type": "string", "pattern": f"^{_WINDOW.pattern}$", "default": "24h"}),
    ] = Field("24h", description="What is not done after it expires: minutes, hours or days, 7 days at most.")
    metadata: Metadata | None = None
    output_expires_after: OutputExpiresAfter | None = None
    webhook: Url | None = Field(None, description="https URL that is told of the batch's end.")
    on_invalid: Literal["fail", "skip"] | None = Field(
        "fail", description="Of wrong lines: nothing runs, or all but them."
    )
    dry_run: bool | None = Field(False, description="Only validate and estimate; nothing runs.")


def read(body: Any, policy: EgressPolicy) -> BatchRequest:
    """The request. `policy` says which webhooks may be called. Raises `Invalid` naming each wrong place."""
    asked = read_as(BatchRequest, body, policy)
    if asked.input_file_id is None and asked.requests is None:
        raise invalid([FieldError("/input_file_id", "required", "must be there, unless `requests` is")])
    if asked.input_file_id is not None and asked.requests is not None:
        raise invalid([FieldError("/requests", "not_allowed", "must not be there beside `input_file_id`")])
    return asked
