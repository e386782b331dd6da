"""The SQL of batches as clients make, see and cancel them. What becomes of one is the clerk's business.

A batch and its counts are read in one statement, which is one snapshot: a job that settles meanwhile is
counted as running or as ended, never as both or neither.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from app.db.accept import FIRST_ANSWER, IdempotencyKey, Repeated
from app.db.engine import connect
from app.db.tally import last_item_of
from app.domain.batch_states import BatchStatus

RATE_WINDOW_S = 30
"""Over how long the rate is measured. Tallies younger than this must stay as they are."""
MOST_ERRORS = 1000
"""So many wrong lines are shown with a batch."""
MOST_LISTED_ERRORS = 10
"""So many are shown of each batch in a list."""

_INSERT = text(
    """
    WITH keyed AS (
        INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id)
        SELECT :tenant_id, :key_of, CAST(:key AS text), :fingerprint, CAST(:id AS uuid)
         WHERE CAST(:key AS text) IS NOT NULL
        ON CONFLICT DO NOTHING
        RETURNING resource_id
    ), batch AS (
        INSERT INTO batches (id, tenant_id, endpoint, input_file_id, retry_of, completion_window, on_invalid,
                             dry_run, webhook, output_expires_after_s, metadata, expires_at)
        SELECT CAST(:id AS uuid), :tenant_id, :endpoint, CAST(:input_file_id AS uuid),
               CAST(:retry_of AS uuid), :completion_window, :on_invalid, :dry_run, CAST(:webhook AS text),
               CAST(:output_expires_after_s AS integer), CAST(:metadata AS jsonb),
               now() + make_interval(secs => CAST(:window_s AS float8))
         WHERE CAST(:key AS text) IS NULL OR EXISTS (SELECT FROM keyed)
        RETURNING *
    ), work AS (
        INSERT INTO batch_work (batch_id) SELECT id FROM batch
    )
    SELECT batch.*, 0 AS succeeded, 0 AS failed, 0 AS canceled, 0 AS expired, 0 AS running, 0 AS recent,
           0.0 AS recent_s, NULL AS errors
      FROM batch
    """
)
_SELECT = f"""
    SELECT b.*, t.succeeded, t.failed, t.canceled, t.expired, t.recent, l.running, e.errors,
           least({RATE_WINDOW_S}, extract(epoch FROM now() - b.in_progress_at))::float8 AS recent_s
      FROM batches b
     CROSS JOIN LATERAL (
        SELECT coalesce(sum(succeeded), 0)::bigint AS succeeded, coalesce(sum(failed), 0)::bigint AS failed,
               coalesce(sum(canceled), 0)::bigint AS canceled, coalesce(sum(expired), 0)::bigint AS expired,
               coalesce(sum(succeeded + failed + canceled + expired)
                        FILTER (WHERE at > now() - interval '{RATE_WINDOW_S} seconds'), 0)::bigint AS recent
          FROM batch_tallies WHERE batch_id = b.id) t
     CROSS JOIN LATERAL (
        SELECT count(*) AS running FROM job_leases WHERE job_id > b.id AND job_id <= {last_item_of("b.id")}) l
     CROSS JOIN LATERAL (
        SELECT json_agg(json_build_object('code', code, 'line', line, 'message', message, 'param', param)
                        ORDER BY line) AS errors
          FROM (SELECT code, line, message, param FROM batch_errors
                 WHERE batch_id = b.id ORDER BY line LIMIT :most_errors) first) e
"""
_GET = text(f"{_SELECT} WHERE b.id = :id AND b.tenant_id = :tenant_id")
# The clerk's row first, as the clerk itself does: so neither waits for what the other holds.
_ASK_CANCEL = text(
    """
    WITH work AS (
        SELECT w.batch_id FROM batch_work w JOIN batches b ON b.id = w.batch_id
         WHERE b.id = :id AND b.tenant_id = :tenant_id
           FOR NO KEY UPDATE OF w
    ), asked AS (
        UPDATE batches b SET status = 'cancelling', cancelling_at = now() FROM work
         WHERE b.id = work.batch_id AND b.status IN ('validating', 'in_progress')
        RETURNING b.id
    )
    UPDATE batch_work w SET due_at = now() FROM asked WHERE w.batch_id = asked.id
    RETURNING w.batch_id
    """
)


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be made. Without `input_file_id` it is a retry: the clerk gathers what failed of `retry_of`.

    `window_s`: after how many seconds it expires, which `completion_window` says as clients see it.
    """

    id: UUID
    tenant_id: int
    endpoint: str
    completion_window: str
    window_s: float
    input_file_id: UUID | None = None
    retry_of: UUID | None = None
    on_invalid: str = "fail"
    dry_run: bool = False
    webhook: str | None = None
    output_expires_after_s: int | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BatchFilter:
    """What a list may be narrowed by. `before_id` is the cursor: only older batches than it."""

    tenant_id: int
    limit: int
    before_id: UUID | None = None
    status: BatchStatus | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def insert(engine: Engine, new: NewBatch, idempotency: IdempotencyKey | None = None) -> Any | Repeated:
    """Write the batch and the clerk's row, or find the batch that an earlier request with this key made.

    Returns its row as `get` gives it. Of any number of concurrent requests with one key, one inserts and the
    others wait for its commit. Raises `Unavailable` if that takes longer than the lock timeout.
    """
    parameters = {
        "id": new.id,
        "tenant_id": new.tenant_id,
        "endpoint": new.endpoint,
        "input_file_id": new.input_file_id,
        "retry_of": new.retry_of,
        "completion_window": new.completion_window,
        "window_s": new.window_s,
        "on_invalid": new.on_invalid,
        "dry_run": new.dry_run,
        "webhook": new.webhook,
        "output_expires_after_s": new.output_expires_after_s,
        "metadata": orjson.dumps(new.metadata).decode(),
        "key_of": idempotency.endpoint if idempotency else "",
        "key": idempotency.key if idempotency else None,
        "fingerprint": idempotency.fingerprint if idempotency else b"",
    }
    with connect(engine) as connection:
        row = connection.execute(_INSERT, parameters).one_or_none()
    if row is not None:
        return row
    assert idempotency is not None
    first = repeated(engine, new.tenant_id, idempotency)
    assert first is not None
    return first


def repeated(engine: Engine, tenant_id: int, idempotency: IdempotencyKey) -> Repeated | None:
    """What an earlier request with this key made, if there was one and it is committed."""
    parameters = {"tenant_id": tenant_id, "endpoint": idempotency.endpoint, "key": idempotency.key}
    with connect(engine) as connection:
        first = connection.execute(FIRST_ANSWER, parameters).one_or_none()
    if first is None:
        return None
    return Repeated(first.resource_id, same=first.fingerprint == idempotency.fingerprint)


def get(engine: Engine, tenant_id: int, batch_id: UUID) -> Any | None:
    """The batch's row, or None if this tenant has no such batch. With it, of the same instant:

    `succeeded`, `failed`, `canceled`, `expired`: jobs that ended so. `running`: jobs under lease. `recent`:
    jobs that ended in the last `recent_s` seconds (None before it ran). `errors`: its first wrong lines.
    """
    parameters = {"id": batch_id, "tenant_id": tenant_id, "most_errors": MOST_ERRORS}
    with connect(engine) as connection:
        return connection.execute(_GET, parameters).one_or_none()


def list_page(engine: Engine, where: BatchFilter) -> Sequence[Any]:
    """Rows as `get` gives them, with fewer errors, newest first; one more than `limit` if there are more."""
    conditions = ["b.tenant_id = :tenant_id"]
    parameters: dict[str, Any] = {
        "tenant_id": where.tenant_id,
        "limit": where.limit + 1,
        "most_errors": MOST_LISTED_ERRORS,
    }
    if where.before_id is not None:
        conditions.append("b.id < :before_id")
        parameters["before_id"] = where.before_id
    if where.status is not None:
        conditions.append("b.status = :status")
        parameters["status"] = where.status.value
    if where.created_after is not None:
        conditions.append("b.created_at > :created_after")
        parameters["created_after"] = where.created_after
    if where.created_before is not None:
        conditions.append("b.created_at < :created_before")
        parameters["created_before"] = where.created_before
    if where.metadata:
        conditions.append("b.metadata @> CAST(:metadata AS jsonb)")
        parameters["metadata"] = orjson.dumps(where.metadata).decode()
    statement = text(f"{_SELECT} WHERE {' AND '.join(conditions)} ORDER BY b.id DESC LIMIT :limit")
    with connect(engine) as connection:
        return connection.execute(statement, parameters).all()


def ask_cancel(engine: Engine, tenant_id: int, batch_id: UUID) -> bool:
    """Ask for its end; the clerk sees to it. False if there is nothing to ask for: it was asked already, its
    jobs have all ended, or this tenant has no such batch.
    """
    with connect(engine) as connection:
        asked = connection.execute(_ASK_CANCEL, {"id": batch_id, "tenant_id": tenant_id})
        return asked.one_or_none() is not None
