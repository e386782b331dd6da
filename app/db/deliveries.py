"""The SQL that sends the outbox: queue → leases → results or queue again, as claim and settle do with jobs.

`now` is for tests only: without it the database's clock is used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.db.outbox import NOW
from app.domain.delivery import DISABLE_AFTER, DeliveryStatus, TryError

HOPS = 1_000
"""Targets that one claim looks at."""

# A target's deliveries go out oldest first, and each target gets no more than its own room: however much
# waits for a dead receiver, it takes no place from the others. `targets` hops over the index from one target
# to the next, `:hops` of them at most: a claim costs the same however many targets there are, and the next
# one goes on where it ended. The order is random so that no target is always last.
_CLAIM = text(
    f"""
    WITH RECURSIVE alive AS MATERIALIZED (
        SELECT id FROM workers WHERE id = :worker_id AND state = 'ready'
    ), targets (target, hop) AS (
        (SELECT target, 1 FROM webhook_queue WHERE target > :after ORDER BY target LIMIT 1)
        UNION ALL
        SELECT (SELECT q.target FROM webhook_queue q WHERE q.target > t.target ORDER BY q.target LIMIT 1),
               t.hop + 1
          FROM targets t WHERE t.target IS NOT NULL AND t.hop < :hops
    ), room AS MATERIALIZED (
        SELECT t.target, coalesce(known.room, :room) AS room
          FROM targets t
          LEFT JOIN unnest(CAST(:targets AS text[]), CAST(:rooms AS integer[])) AS known (target, room)
               ON known.target = t.target
         WHERE t.target IS NOT NULL AND EXISTS (SELECT FROM alive)
         ORDER BY random()
    ), picked AS MATERIALIZED (
        SELECT due.delivery_id
          FROM room r
         CROSS JOIN LATERAL (
            SELECT delivery_id FROM webhook_queue
             WHERE target = r.target AND due_at <= {NOW}
             ORDER BY due_at, delivery_id LIMIT r.room
               FOR UPDATE SKIP LOCKED) due
         LIMIT :window
    ), taken AS (
        DELETE FROM webhook_queue q USING picked p WHERE q.delivery_id = p.delivery_id RETURNING q.*
    ), token AS MATERIALIZED (
        SELECT nextval('lease_epoch') AS epoch
    ), leased AS (
        INSERT INTO webhook_leases (delivery_id, target, endpoint_id, attempt, epoch, worker_id, claimed_at)
        SELECT t.delivery_id, t.target, t.endpoint_id, t.attempt, token.epoch, :worker_id, {NOW}
          FROM taken t, token
        RETURNING *
    )
    -- After the first, in the order of `ClaimedDelivery`.
    SELECT reached.target AS reached, l.delivery_id AS id, l.epoch, l.attempt, l.target, d.tenant_id,
           l.endpoint_id, w.status AS endpoint_status, coalesce(w.url, d.url) AS url, d.event, d.job_id,
           d.batch_id, d.payload, d.created_at,
           CASE WHEN l.endpoint_id IS NULL THEN t.webhook_secret ELSE w.secret END AS secret,
           CASE WHEN l.endpoint_id IS NULL AND t.previous_webhook_secret_expires_at > {NOW}
                THEN t.previous_webhook_secret
                WHEN w.previous_secret_expires_at > {NOW} THEN w.previous_secret END AS previous_secret
      FROM (SELECT max(target) FILTER (WHERE hop = :hops) AS target FROM targets) reached
      LEFT JOIN leased l ON true
      LEFT JOIN LATERAL (SELECT * FROM webhook_deliveries WHERE id = l.delivery_id OFFSET 0) d ON true
      LEFT JOIN tenants t ON t.id = d.tenant_id
      LEFT JOIN webhook_endpoints w ON w.id = l.endpoint_id
     ORDER BY d.created_at, l.delivery_id
    """
)

# `tried` is false for what was not sent at all. An endpoint's row is touched only when its health changes.
_SETTLE = text(
    f"""
    WITH incoming AS (
        SELECT * FROM unnest(
            CAST(:ids AS uuid[]), CAST(:epochs AS bigint[]), CAST(:statuses AS text[]),
            CAST(:errors AS text[]), CAST(:delays AS float8[]), CAST(:trieds AS boolean[]),
            CAST(:codes AS smallint[]), CAST(:latencies AS float4[])
        ) AS t (delivery_id, epoch, status, error, delay_s, tried, code, latency_s)
    ), released AS (
        DELETE FROM webhook_leases l USING incoming i
         WHERE l.delivery_id = i.delivery_id AND l.epoch = i.epoch
        RETURNING l.*, i.status, i.error, i.delay_s, i.tried, i.code, i.latency_s
    ), attempted AS (
        INSERT INTO webhook_attempts (delivery_id, epoch, attempt, started_at, status_code, latency_s, error)
        SELECT delivery_id, epoch, attempt + 1, claimed_at, code, latency_s, error FROM released WHERE tried
    ), ended AS (
        INSERT INTO webhook_results (delivery_id, status, error, completed_at)
        SELECT delivery_id, status, CASE WHEN status = 'failed' THEN error END, {NOW}
          FROM released WHERE status <> 'pending'
    ), retried AS (
        INSERT INTO webhook_queue (delivery_id, target, endpoint_id, attempt, due_at)
        SELECT delivery_id, target, endpoint_id, attempt + CAST(tried AS integer),
               {NOW} + make_interval(secs => delay_s)
          FROM released WHERE status = 'pending'
    ), health AS (
        SELECT endpoint_id, bool_or(error IS NULL) AS well, bool_or(error = 'gone') AS gone
          FROM released
         WHERE endpoint_id IS NOT NULL AND tried AND error IS DISTINCT FROM 'internal_error'
         GROUP BY endpoint_id
    ), noted AS (
        UPDATE webhook_endpoints w SET failing_since = CASE WHEN NOT h.well THEN {NOW} END
          FROM health h
         WHERE w.id = h.endpoint_id AND h.well = (w.failing_since IS NOT NULL)
    )
    SELECT delivery_id AS id, NULL AS disable FROM released
     UNION ALL
    SELECT h.endpoint_id, CASE WHEN h.gone THEN 'gone' ELSE 'failing' END
      FROM health h JOIN webhook_endpoints w ON w.id = h.endpoint_id
     WHERE w.status = 'enabled'
       AND (h.gone OR NOT h.well AND w.failing_since <= {NOW} - make_interval(secs => :disable_after_s))
    """
)

_ORPHANED = text(
    """
    SELECT DISTINCT l.worker_id
      FROM webhook_leases l LEFT JOIN workers w ON w.id = l.worker_id
     WHERE w.id IS NULL OR w.state IN ('dead', 'stopped')
    """
)
# Whether it was sent nobody knows: it is sent again, and the try that nobody saw the end of costs none.
_RESCUE = text(
    """
    WITH taken AS (
        DELETE FROM webhook_leases WHERE worker_id = :worker_id
           AND NOT EXISTS (SELECT FROM workers w WHERE w.id = :worker_id
                              AND w.state IN ('ready', 'draining'))
        RETURNING *
    ), attempted AS (
        INSERT INTO webhook_attempts (delivery_id, epoch, attempt, started_at, error)
        SELECT delivery_id, epoch, attempt + 1, claimed_at, 'sender_lost' FROM taken
    )
    INSERT INTO webhook_queue (delivery_id, target, endpoint_id, attempt, due_at)
    SELECT delivery_id, target, endpoint_id, attempt, now() FROM taken
    RETURNING delivery_id
    """
)
_DUE = text(f"SELECT EXISTS (SELECT FROM webhook_queue WHERE due_at <= {NOW})")
_DEPTHS = text(
    """
    SELECT (SELECT count(*) FROM webhook_queue WHERE due_at <= now()) AS due,
           (SELECT count(*) FROM webhook_queue WHERE due_at > now()) AS waiting,
           (SELECT count(*) FROM webhook_leases) AS sending,
           (SELECT greatest(extract(epoch FROM now() - min(due_at)), 0)::float
              FROM webhook_queue WHERE due_at <= now()) AS overdue_s
    """
)


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery under lease. `(id, epoch)` is the fencing token, as with jobs."""

    id: UUID
    epoch: int
    attempt: int
    """Tries before this one."""
    target: str
    tenant_id: int
    endpoint_id: UUID | None
    endpoint_status: str | None
    """None: it goes to a per-job URL, or its endpoint is deleted."""
    url: str
    event: str
    job_id: UUID | None
    batch_id: UUID | None
    payload: Any
    created_at: datetime
    secret: str | None
    """Sealed; None while a tenant has none yet."""
    previous_secret: str | None


@dataclass(frozen=True, slots=True)
class Claimed:
    """What a claim took. `reached` is the target that the next claim goes on after; empty: all were seen."""

    deliveries: tuple[ClaimedDelivery, ...]
    reached: str


@dataclass(frozen=True, slots=True)
class SettledTry:
    """How a claimed delivery came out. `tried`: something was sent, or the attempt to send failed."""

    id: UUID
    epoch: int
    status: DeliveryStatus
    error: TryError | str | None = None
    delay_s: float = 0.0
    tried: bool = True
    status_code: int | None = None
    latency_s: float | None = None
    job_id: UUID | None = None
    batch_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Settled:
    """Which deliveries were still ours, and which endpoints are to be disabled, with the reason."""

    ids: frozenset[UUID]
    disable: tuple[tuple[UUID, str], ...]


def claim(
    engine: Engine,
    worker_id: UUID,
    *,
    window: int,
    room: int,
    rooms: Mapping[str, int],
    after: str = "",
    now: datetime | None = None,
) -> Claimed:
    """Lease up to `window` due deliveries: for each target up to its number in `rooms`, else `room`.

    Of the targets behind `after`, the first `HOPS` are looked at.
    """
    parameters = {
        "worker_id": worker_id,
        "window": window,
        "room": room,
        "targets": list(rooms.keys()),
        "rooms": list(rooms.values()),
        "after": after,
        "hops": HOPS,
        "now": now,
    }
    with connect(engine) as connection:
        rows = connection.execute(_CLAIM, parameters).all()
    taken = tuple(ClaimedDelivery(*row[1:]) for row in rows if row.id is not None)
    return Claimed(taken, rows[0].reached or "")


def settle(engine: Engine, tries: Sequence[SettledTry], now: datetime | None = None) -> Settled:
    """Write how these tries ended. One whose lease was lost meanwhile is not written."""
    parameters = {
        "ids": [row.id for row in tries],
        "epochs": [row.epoch for row in tries],
        "statuses": [row.status.value for row in tries],
        "errors": [row.error for row in tries],
        "delays": [row.delay_s for row in tries],
        "trieds": [row.tried for row in tries],
        "codes": [row.status_code for row in tries],
        "latencies": [row.latency_s for row in tries],
        "disable_after_s": DISABLE_AFTER.total_seconds(),
        "now": now,
    }
    with connect(engine) as connection:
        rows = connection.execute(_SETTLE, parameters).all()
    return Settled(
        frozenset(row.id for row in rows if row.disable is None),
        tuple((row.id, row.disable) for row in rows if row.disable is not None),
    )


def orphaned_workers(engine: Engine) -> Sequence[UUID]:
    """Senders that are dead, stopped or unknown, and still hold leases."""
    with connect(engine) as connection:
        return connection.execute(_ORPHANED).scalars().all()


def rescue(engine: Engine, worker_id: UUID) -> int:
    """Take every lease from one dead sender. Returns how many; running it twice is harmless."""
    with connect(engine) as connection:
        return len(connection.execute(_RESCUE, {"worker_id": worker_id}).all())


def any_due(engine: Engine, now: datetime | None = None) -> bool:
    """Whether a delivery waits to be sent now."""
    with connect(engine) as connection:
        return connection.execute(_DUE, {"now": now}).scalar_one()


def depths(engine: Engine) -> tuple[dict[str, int], float]:
    """How many deliveries are `due`, `waiting` for their next try, and `sending`; and for how many seconds
    the one that is due longest has been due.
    """
    with connect(engine) as connection:
        row = connection.execute(_DEPTHS).one()
    return {"due": row.due, "waiting": row.waiting, "sending": row.sending}, row.overdue_s or 0.0
