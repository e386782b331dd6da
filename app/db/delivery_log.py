"""The SQL that reads deliveries, and sends some of them again."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from app.db.engine import connect
from app.db.outbox import NOW, target, tell_endpoints
from app.domain.delivery import DeliveryStatus
from app.domain.ids import boundary

_COLUMNS = """
    d.id, d.tenant_id, d.endpoint_id, d.url, d.event, d.job_id, d.batch_id, d.created_at,
    CASE WHEN res.delivery_id IS NOT NULL THEN res.status
         WHEN l.delivery_id IS NOT NULL THEN 'sending'
         ELSE 'pending' END AS status,
    q.due_at, res.error, res.completed_at
"""
_FROM = """
      FROM webhook_deliveries d
      LEFT JOIN webhook_results res ON res.delivery_id = d.id
      LEFT JOIN webhook_leases  l   ON l.delivery_id = d.id
      LEFT JOIN webhook_queue   q   ON q.delivery_id = d.id
"""
_GET = text(
    f"""
    SELECT {_COLUMNS}, w.status AS endpoint_status,
           d.endpoint_id IS NOT NULL AND w.id IS NULL AS endpoint_gone,
           (SELECT json_agg(json_build_object(
                       'attempt', a.attempt, 'started_at', a.started_at, 'status_code', a.status_code,
                       'latency_s', a.latency_s, 'error', a.error) ORDER BY a.started_at, a.epoch)
              FROM webhook_attempts a WHERE a.delivery_id = d.id) AS attempts
    {_FROM} LEFT JOIN webhook_endpoints w ON w.id = d.endpoint_id
     WHERE d.id = :id AND d.tenant_id = :tenant_id
    """
)
_IN_PLACE = {
    DeliveryStatus.PENDING: "q.delivery_id IS NOT NULL",
    DeliveryStatus.SENDING: "l.delivery_id IS NOT NULL",
}

# From its result, or from the queue, to the front of the queue with every try ahead of it.
_AGAIN = f"""
    undone AS (
        DELETE FROM webhook_results r USING wanted WHERE r.delivery_id = wanted.id RETURNING r.delivery_id
    ), hurried AS (
        UPDATE webhook_queue q SET due_at = {NOW}, attempt = 0 FROM wanted
         WHERE q.delivery_id = wanted.id RETURNING q.delivery_id
    ), queued AS (
        INSERT INTO webhook_queue (delivery_id, target, endpoint_id, due_at)
        SELECT w.id, {target("w.endpoint_id", "w.tenant_id", "w.url")}, w.endpoint_id, {NOW}
          FROM wanted w JOIN undone ON undone.delivery_id = w.id
    )
"""
_REDELIVER = text(
    f"""
    WITH wanted AS MATERIALIZED (
        SELECT id, tenant_id, endpoint_id, url FROM webhook_deliveries
         WHERE id = :id AND tenant_id = :tenant_id
    ), {_AGAIN}
    SELECT delivery_id FROM undone UNION ALL SELECT delivery_id FROM hurried
    """
)
_RECOVER = text(
    f"""
    WITH wanted AS MATERIALIZED (
        SELECT d.id, d.tenant_id, d.endpoint_id, d.url
          FROM webhook_deliveries d JOIN webhook_results r ON r.delivery_id = d.id
         WHERE d.tenant_id = :tenant_id AND d.id >= :oldest AND d.endpoint_id = :endpoint_id
           AND d.created_at >= :since AND r.status = 'failed'
         ORDER BY d.id LIMIT :limit
           FOR UPDATE OF r
    ), {_AGAIN}
    SELECT count(*) FROM undone
    """
)
_TEST = text(f"WITH {tell_endpoints('w.id = :id')} SELECT id FROM audience")

_RECOVER_AT_ONCE = 5000


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """What a list may be narrowed by. `before_id` is the cursor: only older deliveries than it."""

    tenant_id: int
    limit: int
    before_id: UUID | None = None
    status: DeliveryStatus | None = None
    endpoint_id: UUID | None = None
    job_id: UUID | None = None
    event: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None


def get(engine: Engine, tenant_id: int, delivery_id: UUID) -> Any | None:
    """The delivery's row with its tries, or None if this tenant has no such delivery."""
    with connect(engine) as connection:
        return connection.execute(_GET, {"id": delivery_id, "tenant_id": tenant_id}).one_or_none()


def list_page(engine: Engine, where: DeliveryFilter) -> Sequence[Any]:
    """Rows as `get` gives them, without tries, newest first; one more than `limit` if there are more."""
    conditions = ["d.tenant_id = :tenant_id"]
    parameters: dict[str, Any] = {"tenant_id": where.tenant_id, "limit": where.limit + 1}
    for column, operator, value in (
        ("d.id", "<", where.before_id),
        ("d.endpoint_id", "=", where.endpoint_id),
        ("d.job_id", "=", where.job_id),
        ("d.event", "=", where.event),
        ("d.created_at", ">", where.created_after),
        ("d.created_at", "<", where.created_before),
    ):
        if value is not None:
            name = f"p{len(parameters)}"
            conditions.append(f"{column} {operator} :{name}")
            parameters[name] = value
    if where.status is not None:
        conditions.append(_IN_PLACE.get(where.status, "res.status = :status"))
        parameters["status"] = where.status.value
    statement = text(
        f"SELECT {_COLUMNS}, NULL AS attempts {_FROM} WHERE {' AND '.join(conditions)}"
        " ORDER BY d.id DESC LIMIT :limit"
    )
    with connect(engine) as connection:
        return connection.execute(statement, parameters).all()


def redeliver(engine: Engine, tenant_id: int, delivery_id: UUID, now: datetime | None = None) -> bool:
    """Put the delivery at the front of the queue with a fresh schedule. False while it is being sent."""
    parameters = {"id": delivery_id, "tenant_id": tenant_id, "now": now}
    with connect(engine) as connection:
        return connection.execute(_REDELIVER, parameters).first() is not None


def recover(
    engine: Engine, tenant_id: int, endpoint_id: UUID, since: datetime, now: datetime | None = None
) -> int:
    """Queue again whatever failed for this endpoint since then. Returns how many.

    Goes on in portions: cut off and called again, it does what is left.
    """
    parameters = {
        "tenant_id": tenant_id,
        "endpoint_id": endpoint_id,
        "since": since,
        # Ids are made by the database's clock when the event is written; a little slack costs nothing.
        "oldest": boundary(since) if now is None else UUID(int=0),
        "limit": _RECOVER_AT_ONCE,
        "now": now,
    }
    total = 0
    with connect(engine) as connection:
        while portion := connection.execute(_RECOVER, parameters).scalar_one():
            total += portion
    return total


def send_test(
    engine: Engine,
    tenant_id: int,
    endpoint_id: UUID,
    event: str,
    payload: dict[str, Any],
    now: datetime | None = None,
) -> UUID | None:
    """Queue one event for one endpoint. Returns the delivery's id, or None if there is no such endpoint."""
    parameters = {
        "id": endpoint_id,
        "tenant_id": tenant_id,
        "event": event,
        "payload": orjson.dumps(payload).decode(),
        "now": now,
    }
    with connect(engine) as connection:
        return connection.execute(_TEST, parameters).scalar_one_or_none()
