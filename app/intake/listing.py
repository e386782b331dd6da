"""A query string to a `JobFilter`: every filter is checked, and one we don't know is refused."""

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.db.jobs import JobFilter
from app.domain.ids import InvalidId, parse_id
from app.domain.states import JobStatus
from app.errors import FieldError, Invalid
from app.intake.request import MAX_METADATA_KEY, MAX_METADATA_PAIRS, MAX_METADATA_VALUE, invalid

DEFAULT_LIMIT = 20
MAX_LIMIT = 100

_METADATA = re.compile(r"metadata\[(.+)\]", re.DOTALL)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def read_filter(tenant_id: int, query: Iterable[tuple[str, str]]) -> JobFilter:
    """The filter that a query means. Raises `Invalid` naming every wrong parameter under /query."""
    chosen: dict[str, Any] = {}
    metadata: dict[str, str] = {}
    wrong: list[FieldError] = []
    for name, value in query:
        found = _METADATA.fullmatch(name)
        try:
            if found:
                metadata[_short(found[1], MAX_METADATA_KEY)] = _short(value, MAX_METADATA_VALUE)
            elif name not in _PARAMETERS:
                raise ValueError("there is no such parameter")
            elif name in chosen:
                raise ValueError("must be given once")
            else:
                chosen[name] = _PARAMETERS[name](value)
        except InvalidId:
            raise Invalid(
                "invalid_cursor",
                "after must be the id of a job",
                [FieldError("/query/after", "bad_format", "no id")],
            ) from None
        except ValueError as error:
            wrong.append(FieldError(f"/query/{name[:100]}", "bad_parameter", str(error)))
    if len(metadata) > MAX_METADATA_PAIRS:
        wrong.append(FieldError("/query/metadata", "too_long", f"at most {MAX_METADATA_PAIRS} pairs"))
    if wrong:
        raise invalid(wrong[:100])
    model, at, version = chosen.get("model", "").partition("@")
    return JobFilter(
        tenant_id=tenant_id,
        limit=chosen.get("limit", DEFAULT_LIMIT),
        before_id=chosen.get("after"),
        status=chosen.get("status"),
        model=model or None,
        version=version if at else None,
        created_after=chosen.get("created_after"),
        created_before=chosen.get("created_before"),
        metadata=metadata,
    )


def _limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 1 <= int(text) <= MAX_LIMIT):
        raise ValueError(f"must be a number from 1 to {MAX_LIMIT}")
    return int(text)


def _status(text: str) -> JobStatus:
    if text not in {status.value for status in JobStatus}:
        raise ValueError(f"must be one of {', '.join(status.value for status in JobStatus)}")
    return JobStatus(text)


def _model(text: str) -> str:
    if not text.partition("@")[0]:
        raise ValueError("must be a model's name, or name@version")
    return _short(text, 257)


def _cursor(text: str) -> UUID:
    return parse_id("job", text)


def _moment(text: str) -> datetime:
    try:
        # An unescaped + is a space by the time it gets here.
        value = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        if value.tzinfo is not None:
            return max(value.astimezone(UTC), _EPOCH)
    except (ValueError, OverflowError):
        pass
    raise ValueError("must be an RFC 3339 time with its offset, as in 2030-01-01T00:00:00Z")


def _short(text: str, most: int) -> str:
    if len(text) > most or "\0" in text:
        raise ValueError(f"must have at most {most} characters, none of them U+0000")
    return text


_PARAMETERS: dict[str, Callable[[str], Any]] = {
    "limit": _limit,
    "after": _cursor,
    "status": _status,
    "model": _model,
    "created_after": _moment,
    "created_before": _moment,
}
