"""`Prefer: wait=N` (RFC 7240): how long the client would like the answer held back."""

import re
from collections.abc import Iterable

from app.errors import Malformed

_PREFERENCE = re.compile(r'\s*([^\s=;,"]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^\s;,"]*))?')
_NEXT = re.compile(r'(?:[^,"]|"(?:[^"\\]|\\.)*"|")*')


def wait_seconds(headers: Iterable[str], longest: int) -> int | None:
    """The N of the first `wait`, None without one. `wait` alone means `longest`, as Replicate has it.

    Other preferences are ignored. Raises `Malformed` for an N that is no whole number up to `longest`.
    """
    for header in headers:
        position = 0
        while position <= len(header):
            found = _PREFERENCE.match(header, position)
            if found and found[1].lower() == "wait":
                return _seconds(found[2], longest)
            position = _NEXT.match(header, position).end() + 1  # type: ignore[union-attr]  # matches anything
    return None


def _seconds(value: str | None, longest: int) -> int:
    if value is None:
        return longest
    digits = value.strip('"')
    if not (digits.isascii() and digits.isdigit() and len(digits) < 9 and int(digits) <= longest):
        raise Malformed("invalid_prefer", f"Prefer: wait=N needs a whole N from 0 to {longest}")
    return int(digits)
