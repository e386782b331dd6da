"""The body of `POST /v1/jobs`, and of every line of a batch for that URL."""

from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from app.errors import FieldError, Invalid
from app.intake.unkept import pointer

MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512
MAX_WEBHOOK = 2048

_MOST_FIELDS = 64
_MOST_ERRORS = 100


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("invalid_text", "must not contain U+0000")
    return text


def _metadata(value: Any) -> Any:
    if not value:
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("wrong_type", "must be an object of strings")
    if len(value) > MAX_METADATA_PAIRS:
        raise PydanticCustomError("too_long", f"must have at most {MAX_METADATA_PAIRS} pairs")
    for key, item in value.items():
        if not 0 < len(key) <= MAX_METADATA_KEY or "\0" in key:
            raise PydanticCustomError("too_long", f"keys must have 1 to {MAX_METADATA_KEY} characters")
        if isinstance(item, str) and len(item) > MAX_METADATA_VALUE:
            raise PydanticCustomError("too_long", f"values must have at most {MAX_METADATA_VALUE} characters")
    return value


def _web_address(text: str) -> str:
    """An absolute http(s) URL that every later step reads the same way. Whether http is allowed depends."""
    try:
        parts = urlsplit(text)
        port_is_right = parts.port is None or parts.port > 0
        plain = text.isascii() and text.isprintable() and not any(c in text for c in ' \\"<>^`{|}')
    except ValueError:
        raise PydanticCustomError("invalid_url", "must be an absolute https URL") from None
    if not plain or not port_is_right or parts.scheme not in ("https", "http") or not parts.hostname:
        raise PydanticCustomError("invalid_url", "must be an absolute https URL")
    if parts.username is not None or parts.password is not None:
        raise PydanticCustomError("invalid_url", "must not hold credentials")
    if "#" in text:
        raise PydanticCustomError("invalid_url", "must not have a fragment")
    return text


Text = Annotated[str, AfterValidator(_no_nul)]
WebhookEvent = Literal["started", "completed"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class Policy(_Part):
    """How long a job may queue and run."""

    queue_ttl_s: float = Field(
        86_400, gt=0, le=604_800, description="Seconds in the queue after which it ends as `expired`."
    )
    execution_timeout_s: float | None = Field(
        None,
        gt=0,
        le=86_400,
        description="Seconds a run may take; the model's own limit holds if it is less.",
    )


class Retry(_Part):
    """How the model's own errors are retried. Worker loss is counted apart and costs no attempt."""

    max_attempts: int = Field(3, ge=1, le=20)
    initial_delay_ms: int = Field(1000, ge=0, le=3_600_000)
    max_delay_ms: int = Field(60_000, ge=0, le=86_400_000)


class JobRequest(_Part):
    """What to run, and how. A member that is null counts as absent."""

    model: Text = Field(min_length=1, max_length=257, description="`name`, or `name@version`.")
    version: Text | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="The current one if absent; fixed on the job at submit.",
    )
    input: Any = Field(description="What the model's input schema says (see `GET /v1/models`).")
    priority: Literal["high", "normal", "low"] | None = "normal"
    webhook: Annotated[str, AfterValidator(_web_address)] | None = Field(
        None, max_length=MAX_WEBHOOK, description="https URL that is told of the job's events."
    )
    webhook_events_filter: list[WebhookEvent] | None = Field(
        None, max_length=8, description="Which events it is told of; `completed` alone if absent."
    )
    policy: Policy | None = None
    retry: Retry | None = None
    use_case: Text | None = Field(None, max_length=128, description="What it is for, in your words.")
    metadata: Annotated[dict[str, Text], BeforeValidator(_metadata)] | None = Field(
        None,
        description=f"At most {MAX_METADATA_PAIRS} pairs, keys of {MAX_METADATA_KEY} characters,"
        f" values of {MAX_METADATA_VALUE}.",
    )


def read(body: Any, *, allow_local_webhooks: bool) -> JobRequest:
    """The request, every default filled in. Raises `Invalid` naming each wrong place."""
    if isinstance(body, dict) and len(body) > _MOST_FIELDS:
        raise invalid([FieldError("", "unknown_field", "the body has far too many members")])
    try:
        request = JobRequest.model_validate(body)
    except ValidationError as error:
        raise invalid(field_errors(error)) from None
    if request.webhook and not allow_local_webhooks and not request.webhook.startswith("https:"):
        raise invalid([FieldError("/webhook", "invalid_url", "must be an absolute https URL")])
    return request


def invalid(errors: Iterable[FieldError]) -> Invalid:
    """`invalid_request` for these places; the first one is told in the detail too."""
    errors = list(errors)
    first = errors[0]
    where = f"{first.pointer}: " if first.pointer else ""
    return Invalid("invalid_request", f"{where}{first.message}", errors)


# Our codes are stable; pydantic's are its own business.
_CODES = {
    "missing": "required",
    "extra_forbidden": "unknown_field",
    "literal_error": "not_allowed",
    "enum": "not_allowed",
    "string_too_short": "too_short",
    "string_too_long": "too_long",
    "too_long": "too_long",
    "too_short": "too_short",
    "finite_number": "out_of_range",
}


def field_errors(error: ValidationError) -> list[FieldError]:
    """A pydantic error as pointers, stable codes and messages that repeat no value."""
    found = []
    for item in error.errors(include_url=False, include_input=False, include_context=False)[:_MOST_ERRORS]:
        found.append(FieldError(pointer(item["loc"]), _code(item["type"]), _message(item["msg"])))
    return found


def _code(kind: str) -> str:
    if kind in _CODES:
        return _CODES[kind]
    if kind.startswith(("greater_than", "less_than", "int_parsing_size")):
        return "out_of_range"
    return "wrong_type" if kind.endswith("_type") or kind == "model_attributes_type" else kind


def _message(text: str) -> str:
    return text.removeprefix("Input ").removeprefix("Value ")[:300]
