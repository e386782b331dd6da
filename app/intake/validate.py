"""A job's input against its model's schema: every violation, named by its place under /input."""

from collections.abc import Sequence
from typing import Any

import jsonschema_rs
import orjson

from app.errors import FieldError, Invalid
from app.intake.catalogue import Listed
from app.intake.media import NamedFile
from app.intake.unkept import pointer

_LIST_ALL_BELOW_BYTES = 32 * 1024
_MOST_ERRORS = 100
_MOST_CHARACTERS = 300


def validate_input(listed: Listed, value: Any, text: bytes) -> Sequence[NamedFile]:
    """Raise `Invalid` (`invalid_input`) unless the input fits the schema. `text` is the value as JSON.

    Every violation is named, at most 100. For an input over 32 kB only the first is: listing costs
    some microseconds for each, and a large hostile input can have a million. Returns the files that its
    media name, of which nobody has looked yet whether they are there (`app.intake.media.check_files`).
    """
    if listed.validator.is_valid(value):
        if listed.check_media is None:
            return ()
        errors, named = listed.check_media(value)
        if not errors:
            return named
    else:
        fields = list(listed.version.spec.input_schema.get("properties", ()))
        if len(text) < _LIST_ALL_BELOW_BYTES:
            errors = [_error(error, fields) for error in listed.validator.iter_errors(value)][:_MOST_ERRORS]
        else:
            errors = [_first(listed.validator, value, fields)]
    spec = listed.version.spec
    raise Invalid("invalid_input", f"the input is not what {spec.name}@{spec.version} takes", errors)


def canonical(value: Any) -> bytes:
    """One text for equal JSON values: members sorted, no space. For hashing only."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _first(validator: jsonschema_rs.Draft202012Validator, value: Any, fields: Sequence[str]) -> FieldError:
    try:
        validator.validate(value)
    except jsonschema_rs.ValidationError as error:
        return _error(error, fields)
    raise AssertionError("an input can't be both valid and not")


def _error(error: jsonschema_rs.ValidationError, fields: Sequence[str]) -> FieldError:
    """`fields` are those of the input itself, told where it has another one."""
    keyword = str(error.schema_path[-1]) if error.schema_path else "schema"
    message = error.message
    if keyword == "additionalProperties" and not error.instance_path:
        message += f"; the input has {', '.join(fields)}" if fields else "; the input has no fields"
    return FieldError(pointer(["input", *error.instance_path]), _code(keyword), message[:_MOST_CHARACTERS])


_CODES = {
    "type": "wrong_type",
    "required": "required",
    "additionalProperties": "unknown_field",
    "unevaluatedProperties": "unknown_field",
    "enum": "not_allowed",
    "const": "not_allowed",
    "minLength": "too_short",
    "minItems": "too_short",
    "maxLength": "too_long",
    "maxItems": "too_long",
    "minimum": "out_of_range",
    "maximum": "out_of_range",
    "exclusiveMinimum": "out_of_range",
    "exclusiveMaximum": "out_of_range",
    "multipleOf": "out_of_range",
}


def _code(keyword: str) -> str:
    return _CODES.get(keyword, keyword)
