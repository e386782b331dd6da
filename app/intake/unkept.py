"""Finding the values of a body that can't be kept as they are, so that a refusal can name their places.

Slow (the standard library's parser, then a walk), so only run on what is refused anyway, and not on
large bodies: there the refusal names no place.
"""

import json
from collections.abc import Iterable
from math import isfinite
from typing import Any

from app.errors import FieldError, Invalid

LARGE = 256 * 1024
"""Above this many characters places are not looked for: a hostile body would cost seconds."""
_LEAST, _MOST = -(2**63), 2**64 - 1
_DIGITS_OF_64_BITS = 20
_MOST_ERRORS = 100


class _TooBig:
    """Stands for an integer beyond 64 bits."""


def refuse(text: str, *, surely: bool = False) -> None:
    """Raise `Invalid` naming each such value; return if there is none, or `text` is no JSON in any way.

    With `surely` the caller knows that there is one, and `Invalid` is raised in any case.
    """
    places = _places(text) if len(text) <= LARGE else []
    if not places and surely:
        places = [FieldError("", "number_out_of_range", "integers must fit in 64 bits")]
    if places:
        raise Invalid("invalid_request", "the body has values that can't be kept as they are", places)


def too_big(digits: bytes | str) -> bool:
    """Whether these digits, with their sign, are an integer beyond 64 bits."""
    return len(digits) > _DIGITS_OF_64_BITS or not _LEAST <= int(digits) <= _MOST


def pointer(path: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901) of these steps, safe to be printed."""
    text = "".join("/" + str(step).replace("~", "~0").replace("/", "~1") for step in path)
    return text.encode("utf-8", "replace").decode()[:1000]


def _integer(digits: str) -> int | _TooBig:
    return _TooBig() if too_big(digits) else int(digits)


def _places(text: str) -> list[FieldError]:
    try:
        root = json.loads(text, parse_int=_integer)
    except (ValueError, RecursionError):
        return []
    return _walk(root)


def _walk(root: Any) -> list[FieldError]:
    found: list[FieldError] = []
    stack: list[tuple[tuple[str | int, ...], Any]] = [((), root)]
    while stack and len(found) < _MOST_ERRORS:
        path, value = stack.pop()
        if isinstance(value, dict):
            if not all(map(_encodable, value)):
                found.append(FieldError(pointer(path), "invalid_unicode", "a key has a lone surrogate"))
            children: Iterable[tuple[str | int, Any]] = value.items()
        elif isinstance(value, list):
            children = enumerate(value)
        else:
            children = [("", value)]
        for step, child in children:
            if isinstance(child, dict | list):
                stack.append(((*path, step), child))
            elif (wrong := _wrong(child)) and len(found) < _MOST_ERRORS:
                found.append(FieldError(pointer((*path, step) if value is not child else path), *wrong))
    return found


def _wrong(value: Any) -> tuple[str, str] | None:
    if isinstance(value, float) and not isfinite(value):
        return "number_out_of_range", "numbers must be finite: no NaN, no Infinity"
    if isinstance(value, _TooBig):
        return "number_out_of_range", "integers must fit in 64 bits"
    if isinstance(value, str) and not _encodable(value):
        return "invalid_unicode", "the text has a lone surrogate"
    return None


def _encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
