"""What may be asked of files: the form of `POST /v1/files`, and the query of `GET /v1/files`."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.errors import FieldError
from app.intake.file_view import FILE
from app.intake.query import DEFAULT_LIMIT, cursor, limit_to, one_of, read_query
from app.intake.shapes import Part, invalid, read_as

MAX_FILES = 10_000
MAX_FILENAME = 255
MIN_EXPIRY_S = 3600
MAX_EXPIRY_S = 2_592_000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class Purpose(StrEnum):
    """What a file is for. Ours alone to make: `batch_output` and `job_output`."""

    BATCH = "batch"
    VISION = "vision"
    USER_DATA = "user_data"
    BATCH_OUTPUT = "batch_output"
    JOB_OUTPUT = "job_output"


class Order(StrEnum):
    """By when files were made."""

    ASC = "asc"
    DESC = "desc"


def _filename(text: str) -> str:
    # Some clients send the path that the file had with them.
    name = text.replace("\\", "/").rpartition("/")[2]
    if not 0 < len(name) <= MAX_FILENAME or _CONTROL.search(name):
        raise PydanticCustomError(
            "bad_format", f"must have a filename of 1 to {MAX_FILENAME} characters, none of them for control"
        )
    return name


def _whole(value: Any) -> Any:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else value


class FileForm(Part):
    """The form's fields, named as they are sent. Of the file, only its name is here."""

    file: Annotated[
        str,
        AfterValidator(_filename),
        WithJsonSchema({"type": "string", "contentMediaType": "application/octet-stream"}),
    ] = Field(description="The content, with a filename.")
    purpose: Literal["batch", "vision", "user_data"] = Field(
        description="What it is for: `batch` for the input of one, the others for media in the input of jobs."
    )
    anchor: Literal["created_at"] | None = Field(
        None, alias="expires_after[anchor]", description="From when its time is counted."
    )
    seconds: Annotated[int, BeforeValidator(_whole)] | None = Field(
        None,
        alias="expires_after[seconds]",
        ge=MIN_EXPIRY_S,
        le=MAX_EXPIRY_S,
        description="For how long it is kept. For ever, if absent: until it is deleted.",
    )


@dataclass(frozen=True, slots=True)
class Listing:
    """Which files are asked for."""

    limit: int
    after: UUID | None
    oldest_first: bool
    purpose: str | None


def read_form(fields: Mapping[str, str]) -> FileForm:
    """The form. Raises `Invalid` naming each wrong field."""
    form = read_as(FileForm, dict(fields))
    if (form.anchor is None) != (form.seconds is None):
        missing = "anchor" if form.anchor is None else "seconds"
        raise invalid(
            [FieldError(f"/expires_after[{missing}]", "required", "anchor and seconds go together")]
        )
    return form


_LISTING = {
    "limit": limit_to(MAX_FILES),
    "after": cursor(FILE, "a file"),
    "order": one_of(Order),
    "purpose": one_of(Purpose),
}


def read_listing(query: Iterable[tuple[str, str]]) -> Listing:
    """The query. Raises `Invalid` naming each wrong parameter."""
    chosen = read_query(query, _LISTING.get)
    return Listing(
        limit=chosen.get("limit", DEFAULT_LIMIT),
        after=chosen.get("after"),
        oldest_first=chosen.get("order") is Order.ASC,
        purpose=chosen.get("purpose"),
    )
