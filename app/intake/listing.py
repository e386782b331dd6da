"""The query strings of `GET /v1/jobs` and `GET /v1/batches` to filters."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from app.db.batches import BatchFilter
from app.db.jobs import JobFilter
from app.domain.batch_states import BatchStatus
from app.domain.states import JobStatus
from app.errors import FieldError
from app.intake.query import DEFAULT_LIMIT, Reader, cursor, id_of, limit, moment, one_of, read_query, short
from app.intake.request import MAX_METADATA_KEY, MAX_METADATA_PAIRS, MAX_METADATA_VALUE
from app.intake.shapes import invalid

_METADATA = re.compile(r"metadata\[(.+)\]", re.DOTALL)


def read_filter(tenant_id: int, query: Iterable[tuple[str, str]]) -> JobFilter:
    """The filter that a query for jobs means. Raises `Invalid` naming every wrong parameter under /query."""
    chosen, metadata = _read(query, _OF_JOBS)
    model, at, version = chosen.get("model", "").partition("@")
    return JobFilter(
        tenant_id=tenant_id,
        limit=chosen.get("limit", DEFAULT_LIMIT),
        before_id=chosen.get("after"),
        status=chosen.get("status"),
        model=model or None,
        version=version if at else None,
        batch_id=chosen.get("batch_id"),
        created_after=chosen.get("created_after"),
        created_before=chosen.get("created_before"),
        metadata=metadata,
    )


def read_batch_filter(tenant_id: int, query: Iterable[tuple[str, str]]) -> BatchFilter:
    """The filter that a query for batches means. Raises as `read_filter`."""
    chosen, metadata = _read(query, _OF_BATCHES)
    return BatchFilter(
        tenant_id=tenant_id,
        limit=chosen.get("limit", DEFAULT_LIMIT),
        before_id=chosen.get("after"),
        status=chosen.get("status"),
        created_after=chosen.get("created_after"),
        created_before=chosen.get("created_before"),
        metadata=metadata,
    )


def _read(
    query: Iterable[tuple[str, str]], parameters: Mapping[str, Reader]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Each parameter's value, and the pairs of `metadata[key]`."""

    def reader_of(name: str) -> Reader | None:
        found = _METADATA.fullmatch(name)
        return _metadata(found[1]) if found else parameters.get(name)

    chosen = read_query(query, reader_of)
    metadata = {found[1]: value for name, value in chosen.items() if (found := _METADATA.fullmatch(name))}
    if len(metadata) > MAX_METADATA_PAIRS:
        raise invalid([FieldError("/query/metadata", "too_long", f"at most {MAX_METADATA_PAIRS} pairs")])
    return chosen, metadata


def _metadata(key: str) -> Reader:
    def read(value: str) -> str:
        short(key, MAX_METADATA_KEY)
        return short(value, MAX_METADATA_VALUE)

    return read


def _model(text: str) -> str:
    if not text.partition("@")[0]:
        raise ValueError("must be a model's name, or name@version")
    return short(text, 257)


_OF_BATCHES: dict[str, Reader] = {
    "limit": limit,
    "after": cursor("batch", "a batch"),
    "status": one_of(BatchStatus),
    "created_after": moment,
    "created_before": moment,
}
_OF_JOBS: dict[str, Reader] = {
    **_OF_BATCHES,
    "after": cursor("job", "a job"),
    "status": one_of(JobStatus),
    "model": _model,
    "batch_id": id_of("batch"),
}
