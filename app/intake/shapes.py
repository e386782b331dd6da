"""What all request bodies share: they are read strictly, every wrong place is named, no value is repeated."""

from collections.abc import Iterable
from datetime import UTC, datetime
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic import ValidationInfo as Info
from pydantic_core import PydanticCustomError

from app.domain.egress import Blocked, EgressPolicy, Refused
from app.errors import FieldError, Invalid
from app.intake.unkept import pointer

MAX_URL = 2048

_MOST_FIELDS = 64
_MOST_ERRORS = 100
_LONGEST_NAME = 64
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Part(BaseModel):
    """A JSON object of a request."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


Asked = TypeVar("Asked", bound=Part)


def read_as(shape: type[Asked], body: Any, policy: EgressPolicy | None = None) -> Asked:
    """The body as this shape, every default filled in. Raises `Invalid` naming each wrong place.

    `policy` judges the URLs in it.
    """
    if isinstance(body, dict) and len(body) > _MOST_FIELDS:
        raise invalid([FieldError("", "unknown_field", "the body has far too many members")])
    try:
        return shape.model_validate(body, context=policy)
    except ValidationError as error:
        raise invalid(field_errors(error, shape)) from None


def read_moment(text: str) -> datetime:
    """The time that an RFC 3339 text names; what was before 1970 is 1970. Raises `ValueError`."""
    try:
        value = datetime.fromisoformat(text)
        if value.tzinfo is not None:
            return max(value.astimezone(UTC), _EPOCH)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be an RFC 3339 time with its offset, as in 2030-01-01T00:00:00Z")


def _no_nul(text: str) -> str:
    if "\0" in text:
        raise PydanticCustomError("invalid_text", "must not contain U+0000")
    return text


def _callable(url: str, info: Info) -> str:
    policy = info.context
    assert isinstance(policy, EgressPolicy)
    try:
        policy.check_url(url)
    except Refused as refused:
        code = "blocked_url" if isinstance(refused, Blocked) else "invalid_url"
        raise PydanticCustomError(code, "{reason}", {"reason": str(refused)}) from None
    return url


def _moment(value: Any) -> datetime:
    if not isinstance(value, str):
        raise PydanticCustomError("wrong_type", "should be a valid string")
    try:
        return read_moment(value)
    except ValueError as error:
        raise PydanticCustomError("bad_format", "{reason}", {"reason": str(error)}) from None


Text = Annotated[str, AfterValidator(_no_nul)]
Url = Annotated[str, Field(max_length=MAX_URL), AfterValidator(_callable)]
"""An absolute https URL of a host that this server may call."""
Moment = Annotated[datetime, BeforeValidator(_moment)]


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
    "string_pattern_mismatch": "bad_format",
}


# Where pydantic's words are about Python, or say less than what would be right.
_MESSAGES = {
    "missing": "is required",
    "model_type": "should be a JSON object",
    "dict_type": "should be a JSON object",
    "list_type": "should be a JSON array",
    "string_type": "should be a string",
    "int_type": "should be a whole number",
    "float_type": "should be a number",
    "bool_type": "should be true or false",
}


def field_errors(error: ValidationError, shape: type[BaseModel] | None = None) -> list[FieldError]:
    """A pydantic error as pointers, stable codes and messages that repeat no value.

    `shape` is what was asked for: of a member that it has not, its nearest one is told.
    """
    found = []
    for item in error.errors(include_url=False, include_input=False, include_context=False)[:_MOST_ERRORS]:
        kind, place = item["type"], item["loc"]
        if kind == "extra_forbidden":
            message = f"there is no such field{_nearest(shape, place)}"
        else:
            message = _MESSAGES.get(kind) or _message(item["msg"])
        found.append(FieldError(pointer(place), _code(kind), message))
    return found


def _nearest(shape: type[BaseModel] | None, place: tuple[int | str, ...]) -> str:
    name = str(place[-1])
    # A name of megabytes is not compared with anything.
    if shape is None or len(place) != 1 or len(name) > _LONGEST_NAME:
        return ""
    near = get_close_matches(name, shape.model_fields, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _code(kind: str) -> str:
    if kind in _CODES:
        return _CODES[kind]
    if kind.startswith(("greater_than", "less_than", "int_parsing_size")):
        return "out_of_range"
    return "wrong_type" if kind.endswith("_type") or kind == "model_attributes_type" else kind


def _message(text: str) -> str:
    return text.removeprefix("Input ").removeprefix("Value ")[:300]
