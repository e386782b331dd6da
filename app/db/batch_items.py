"""The SQL that reads a batch's jobs and wrong lines, in the order of its file, a page at a time."""

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.domain.ids import MOST_ITEMS, item_uuid

# Ranges are said of both tables, so that the one day's partition of each is known before any row is read.
_ITEMS = text(
    """
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
    """
)
_REQUESTS = text(
    """
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
    """
)
_WRONG = text(
    """
    SELECT line, code, message, param, custom_id, after FROM batch_errors
     WHERE batch_id = :batch_id AND line > :line ORDER BY line LIMIT :limit
    """
)

_PAGE_BYTES = 4 * 1024 * 1024
_FIRST_PAGE, _LARGEST_PAGE = 100, 2000


def items(engine: Engine, batch_id: UUID) -> Iterator[Any]:
    """The batch's jobs with their results; `status` is None while there is none. No page is long held."""
    after, limit = batch_id, _FIRST_PAGE
    last = item_uuid(batch_id, MOST_ITEMS)
    while True:
        with connect(engine) as connection:
            rows = connection.execute(_ITEMS, {"after": after, "last": last, "limit": limit}).all()
        yield from rows
        if len(rows) < limit:
            return
        after = rows[-1].id
        size = sum(len(row.output or "") + 500 for row in rows) / len(rows)
        limit = max(1, min(_LARGEST_PAGE, 4 * limit, int(_PAGE_BYTES / size)))


def requests(engine: Engine, batch: Any) -> Iterator[Any]:
    """What was asked for by each of the batch's jobs, and the `status` it ended with, or None."""
    after, limit = batch.id, _FIRST_PAGE
    last = item_uuid(batch.id, MOST_ITEMS)
    while True:
        parameters = {"after": after, "last": last, "limit": limit, "batch_expires_at": batch.expires_at}
        with connect(engine) as connection:
            rows = connection.execute(_REQUESTS, parameters).all()
        yield from rows
        if len(rows) < limit:
            return
        after = rows[-1].id
        size = sum(len(row.input or "") + 500 for row in rows) / len(rows)
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
