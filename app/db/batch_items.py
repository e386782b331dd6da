"""The SQL that reads a batch's jobs and wrong lines, in the order of its file, a page at a time."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, TextClause, text

from app.db.engine import connect
from app.domain.ids import MOST_ITEMS, item_uuid

# A page ends after so many rows, or with the row that has its bytes full, whichever is sooner. So it is small
# whatever a tenant puts where: lines of a few bytes first, lines of megabytes behind them.
_PAGE = """
    SELECT * FROM (
        SELECT *, sum(octet_length(coalesce({payload}, '')))
                  OVER (ORDER BY id ROWS UNBOUNDED PRECEDING) AS so_far
          FROM ({rows}) rows) page
     WHERE so_far - octet_length(coalesce({payload}, '')) < :bytes
     ORDER BY id
"""
# Ranges are said of both tables, so that the one day's partition of each is known before any row is read.
_ITEMS = _PAGE.format(
    payload="output",
    rows="""
    SELECT j.id, j.custom_id, j.encoding, j.metadata, j.created_at, v.model, v.version, v.unit,
           r.status, CAST(r.output AS text) AS output, CAST(r.error AS text) AS error,
           r.started_at, r.completed_at, r.batch_size, r.units, r.run_s, r.device, r.device_s
      FROM jobs j
      JOIN model_versions v ON v.id = j.version_id
      LEFT JOIN LATERAL (
        SELECT * FROM job_results WHERE job_id = j.id AND job_id > :after AND job_id <= :last OFFSET 0
      ) r ON true
     WHERE j.id > :after AND j.id <= :last
     ORDER BY j.id LIMIT :limit
    """,
)
_REQUESTS = _PAGE.format(
    payload="input",
    rows="""
    SELECT j.id, j.custom_id, j.encoding, CAST(j.input AS text) AS input, j.metadata, v.model, v.version,
           v.execution_timeout_s AS most_execution_s, j.priority, j.execution_timeout_s, j.max_attempts,
           j.initial_delay_ms, j.max_delay_ms, j.webhook, j.webhook_events, j.use_case,
           CASE WHEN j.expires_at < CAST(:batch_expires_at AS timestamptz)
                THEN extract(epoch FROM j.expires_at - j.created_at)::float8 END AS queue_ttl_s,
           r.status
      FROM jobs j
      JOIN model_versions v ON v.id = j.version_id
      LEFT JOIN LATERAL (
        SELECT status FROM job_results WHERE job_id = j.id AND job_id > :after AND job_id <= :last OFFSET 0
      ) r ON true
     WHERE j.id > :after AND j.id <= :last
     ORDER BY j.id LIMIT :limit
    """,
)
_WRONG = text(
    """
    SELECT line, code, message, param, custom_id, after FROM batch_errors
     WHERE batch_id = :batch_id AND line > :line ORDER BY line LIMIT :limit
    """
)

_PAGE_BYTES = 4 * 1024 * 1024
_FIRST_PAGE, _LARGEST_PAGE = 100, 2000
_ROW_BYTES = 500
"""About what a row takes beside its payload."""


def items(engine: Engine, batch_id: UUID) -> Iterator[Any]:
    """The batch's jobs with their results; `status` is None while there is none. No page is long held."""
    return _rows(engine, text(_ITEMS), batch_id, {})


def requests(engine: Engine, batch: Any) -> Iterator[Any]:
    """What was asked for by each of the batch's jobs, and the `status` it ended with, or None."""
    return _rows(engine, text(_REQUESTS), batch.id, {"batch_expires_at": batch.expires_at})


def _rows(engine: Engine, page: TextClause, batch_id: UUID, parameters: dict[str, Any]) -> Iterator[Any]:
    after, last, limit = batch_id, item_uuid(batch_id, MOST_ITEMS), _FIRST_PAGE
    while True:
        place = {"after": after, "last": last, "limit": limit, "bytes": _PAGE_BYTES}
        with connect(engine) as connection:
            rows = connection.execute(page, {**parameters, **place}).all()
        yield from rows
        if not rows or (len(rows) < limit and rows[-1].so_far < _PAGE_BYTES):
            return
        after = rows[-1].id
        size = rows[-1].so_far / len(rows) + _ROW_BYTES
        limit = max(1, min(_LARGEST_PAGE, 4 * limit, int(_PAGE_BYTES / size)))


def wrong_lines(engine: Engine, batch_id: UUID, above: int = 0) -> Iterator[Any]:
    """`line, code, message, param, custom_id, after` of the wrong lines with numbers above this."""
    while True:
        rows: Sequence[Any]
        with connect(engine) as connection:
            rows = connection.execute(
                _WRONG, {"batch_id": batch_id, "line": above, "limit": _LARGEST_PAGE}
            ).all()
        yield from rows
        if len(rows) < _LARGEST_PAGE:
            return
        above = rows[-1].line
