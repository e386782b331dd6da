"""What a caller gave, as it is sent."""

from collections.abc import Sequence
from math import isnan
from typing import Any
from urllib.parse import quote


def given(**values: Any) -> dict[str, Any]:
    """Those that are not None: what was not given is not sent."""
    return {name: value for name, value in values.items() if value is not None}


def listed(words: Sequence[str] | None) -> list[str] | None:
    """A list for JSON. One word need not be in a list: it is a sequence, too, but of letters."""
    return [words] if isinstance(words, str) else None if words is None else list(words)


def in_path(given: str, what: str, safe: str = "") -> str:
    """An id as a part of a path, of `a job` or whatever else. A stray one must not turn into the path of
    something else. Raises `TypeError` or `ValueError`.
    """
    if not isinstance(given, str):
        hint = "; give its id" if hasattr(given, "id") else ""
        raise TypeError(f"the id of {what} is text, not {type(given).__name__}{hint}")
    if given.strip(".") == "":
        raise ValueError(f"the id of {what} is needed")
    return quote(given, safe=safe)


def seconds(given: float | None, name: str, *, above: float | None = None) -> float | None:
    """A time in seconds, if it is one. Raises `TypeError` or `ValueError`, naming it."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | float)):
        raise TypeError(f"{name} is a number of seconds, not {type(given).__name__}")
    if given is not None and isnan(given):
        raise ValueError(f"{name} is a number of seconds, not {given}")
    if given is not None and above is not None and not given > above:
        raise ValueError(f"{name} is a number of seconds above {above:g}")
    return given
