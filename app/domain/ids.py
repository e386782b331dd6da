"""Public ids: a prefix that says what the thing is, and a UUIDv7 that says when it was made.

`job_` + 32 hex digits. The UUID's first 48 bits are Unix milliseconds, so that ids sort by time and
the hot tables can be partitioned by id.
"""

from datetime import UTC, datetime
from uuid import UUID

from uuid_utils.compat import uuid7

__all__ = [
    "MOST_ITEMS",
    "InvalidId",
    "batch_of",
    "boundary",
    "format_id",
    "item_uuid",
    "made_at",
    "new_batch_uuid",
    "new_uuid",
    "parse_id",
]

new_uuid = uuid7

_ITEM_BITS = 32
_ITEM_MASK = (1 << _ITEM_BITS) - 1
MOST_ITEMS = _ITEM_MASK
"""How many jobs a batch can number."""


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


def new_batch_uuid() -> UUID:
    """A batch's id: a UUIDv7 whose last 32 bits are 0, because its jobs are numbered with them.

    What is left is still unique: 48 bits of time, and 42 bits that count up from a random number within a
    millisecond (RFC 9562, section 6.2, method 1).
    """
    return UUID(int=uuid7().int & ~_ITEM_MASK)


def item_uuid(batch_id: UUID, number: int) -> UUID:
    """The id of a batch's job. `number` counts from 1 in the order of the file, and so do the ids."""
    if not 1 <= number <= MOST_ITEMS:
        raise ValueError(f"a batch's jobs are numbered from 1 to {MOST_ITEMS}")
    return UUID(int=batch_id.int | number)


def batch_of(job_id: UUID) -> UUID:
    """The batch whose job this is. Only for jobs of the batch lane."""
    return UUID(int=job_id.int & ~_ITEM_MASK)


def boundary(moment: datetime) -> UUID:
    """The smallest UUIDv7 that could be made at `moment` (an aware time): a partition's edge."""
    milliseconds = int(moment.astimezone(UTC).timestamp() * 1000)
    return UUID(int=milliseconds << 80)


def made_at(value: UUID) -> float:
    """When this UUIDv7 was made, in Unix seconds. A batch's job has the time of its batch."""
    return (value.int >> 80) / 1000
