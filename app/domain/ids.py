"""Public ids: a prefix that says what the thing is, and a UUIDv7 that says when it was made.

`job_` + 32 hex digits. The UUID's first 48 bits are Unix milliseconds, so that ids sort by time and
the hot tables can be partitioned by id.
"""

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7

__all__ = ["InvalidId", "boundary", "format_id", "new_uuid", "parse_id"]

new_uuid = uuid7


class InvalidId(ValueError):
    """The text is not an id of this kind."""


def format_id(prefix: str, value: UUID) -> str:
    """`format_id("job", uuid)` → `job_0190…`."""
    return f"{prefix}_{value.hex}"


def parse_id(prefix: str, text: str) -> UUID:
    """The UUID inside `text`. Raises `InvalidId` unless it is `prefix_` and 32 lowercase hex digits."""
    head, _, tail = text.partition("_")
    if head != prefix or len(tail) != 32 or not all(c in "0123456789abcdef" for c in tail):
        raise InvalidId(f"expected {prefix}_ and 32 hex digits")
    return UUID(hex=tail)


def boundary(moment: datetime) -> UUID:
    """The smallest UUIDv7 that could be made at `moment` (an aware time): a partition's edge."""
    milliseconds = int(moment.astimezone(UTC).timestamp() * 1000)
    return UUID(int=milliseconds << 80)
