"""What is sent, as JSON. What is no JSON is told with its place, as a server tells of a wrong field."""

import json
from contextlib import suppress
from math import isfinite
from typing import Any


def to_json(value: Any) -> bytes:
    """Compact, in UTF-8. Raises `TypeError` or `ValueError` that names the place as a JSON pointer."""
    try:
        # NaN is no JSON: better a ValueError here than a 422 from there.
        return json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":")).encode()
    except (TypeError, ValueError) as error:
        kind: type[Exception] = type(error)
        said = str(error)
    with suppress(RecursionError):  # A value that holds itself: json said so.
        kind, said = _unfit(value, "") or (kind, said)
    raise TypeError(said) if issubclass(kind, TypeError) else ValueError(said)


def _unfit(value: Any, place: str) -> tuple[type[Exception], str] | None:
    if isinstance(value, dict):
        for key, item in value.items():
            inner = f"{place}/{key}" if isinstance(key, str) else place
            if found := (_unfit_key(key, place) or _unfit(item, inner)):
                return found
        return None
    if isinstance(value, list | tuple):
        found_at = (_unfit(item, f"{place}/{number}") for number, item in enumerate(value))
        return next(filter(None, found_at), None)
    if isinstance(value, str):
        return None if _is_text(value) else (ValueError, f"{place}: half of a surrogate pair is no text")
    if isinstance(value, float) and not isfinite(value):
        return ValueError, f"{place}: {value} is no number in JSON"
    if value is None or isinstance(value, bool | int | float):
        return None
    return TypeError, f"{place}: {type(value).__name__} is no JSON{_INSTEAD.get(type(value).__name__, '')}"


_INSTEAD = {
    "datetime": "; send .isoformat()",
    "date": "; send .isoformat()",
    "bytes": "; send base64 text, or a file's id",
    "ndarray": "; send .tolist()",
    "Tensor": "; send .tolist()",
    "set": "; send a list",
}


def _unfit_key(key: Any, place: str) -> tuple[type[Exception], str] | None:
    if isinstance(key, str):
        return None if _is_text(key) else (ValueError, f"{place}: half of a surrogate pair is no text")
    if key is None or isinstance(key, bool | int | float):
        return None  # json writes those as text.
    return TypeError, f"{place}: a key is {type(key).__name__}, and must be text"


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
