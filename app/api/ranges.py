"""`Range: bytes=…`: which part of something is asked for (RFC 9110, 14)."""

import re

# Longer numbers are beyond anything that is stored.
_ONE_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII | re.IGNORECASE)


class Unsatisfiable(ValueError):
    """Nothing of it is in the range."""


def wanted(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, end) of the range, `end` being the first byte beyond it. None: all is to be sent.

    That is so for a range we can't read and for several, which a server may ignore. Raises `Unsatisfiable`.
    """
    match = _ONE_RANGE.fullmatch(header.strip()) if header else None
    if match is None or match[0].endswith("=-"):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size
    else:
        start, end = int(first), int(last) + 1 if last else size
        if last and end <= start:
            return None
    end = min(end, size)
    if start >= end:
        raise Unsatisfiable
    return start, end
