"""The SQL of periodic work: promote what is due, expire what waited too long, forget what is old."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import connect, transaction
from app.db.models import VERSION_COLUMNS, version_from_row
from app.db.outbox import tell_of_jobs
from app.db.tally import tally
from app.domain.lanes import Lane
from app.domain.model import ModelVersion

_PROMOTE = text(
    """
    WITH due AS (
        SELECT job_id FROM job_deferred WHERE run_at <= now()
         ORDER BY run_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), taken AS (
        DELETE FROM job_deferred d USING due WHERE d.job_id = due.job_id RETURNING d.*
    )
    INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at,
                           attempt, crashes, batch_cap, reason, tenant_id)
    SELECT job_id, version_id, lane, priority, rank, expires_at, attempt, crashes, batch_cap, reason,
           tenant_id
      FROM taken
    RETURNING job_id
    """
)

# Where nobody overtakes, nobody moves up. Only the first of each priority are looked at: those behind them
# are younger, or come after them anyway. LATERAL and arrays keep the planner from reading all that waits: of
# EXISTS and of a join it makes a hash of the whole table.
_AGE = text(
    """
    WITH overtaken AS (
        SELECT v.id AS version_id, lanes.lane, p.priority
          FROM model_versions v CROSS JOIN (VALUES (0), (1)) AS lanes (lane)
         CROSS JOIN (VALUES (1), (2)) AS p (priority)
         CROSS JOIN LATERAL (
            SELECT FROM job_ready r WHERE r.version_id = v.id AND r.lane = lanes.lane
                                      AND r.priority < p.priority
             ORDER BY r.priority, r.rank LIMIT 1) higher
    ), first AS (
        SELECT r.job_id, r.priority FROM overtaken o
         CROSS JOIN LATERAL (
            SELECT job_id, priority FROM job_ready r
             WHERE r.version_id = o.version_id AND r.lane = o.lane AND r.priority = o.priority
             ORDER BY rank, job_id LIMIT :limit) r
    ), due AS MATERIALIZED (
        SELECT f.job_id FROM first f
         CROSS JOIN LATERAL (SELECT priority FROM jobs WHERE id = f.job_id OFFSET 0) asked
         WHERE uuid_extract_timestamp(f.job_id)
             < now() - make_interval(secs => (asked.priority - f.priority + 1) * CAST(:after_s AS float8))
    ), locked AS MATERIALIZED (
        SELECT job_id FROM job_ready WHERE job_id = ANY (ARRAY(SELECT job_id FROM due))
           FOR UPDATE SKIP LOCKED
    )
    UPDATE job_ready SET priority = priority - 1 WHERE job_id = ANY (ARRAY(SELECT job_id FROM locked))
    """
)

# Ready rows have no index on expires_at: it would cost every insert, and this scan runs once a tick
# over rows of 100 bytes.
_EXPIRE = f"""
    WITH late AS (
        SELECT job_id FROM {{place}} WHERE expires_at <= now() LIMIT :limit FOR UPDATE SKIP LOCKED
    ), taken AS (
        DELETE FROM {{place}} p USING late WHERE p.job_id = late.job_id
        RETURNING p.job_id, p.lane, p.tenant_id, 'expired' AS status
    ), ended AS (
        INSERT INTO job_results (job_id, status, reason, tenant_id)
        SELECT job_id, 'expired', 'queue_ttl_passed', tenant_id FROM taken
        RETURNING job_id
    ), {tell_of_jobs("ended", "job.completed")}, {tally("taken")}
    SELECT job_id FROM ended
"""
_EXPIRE_READY = text(_EXPIRE.format(place="job_ready"))
_EXPIRE_DEFERRED = text(_EXPIRE.format(place="job_deferred"))

# One look into the index for each version and lane: of EXISTS the planner makes a scan of all that waits, and
# of LIMIT alone one until the first.
_WAITING = text(
    f"""
    SELECT {VERSION_COLUMNS}, lanes.lane
      FROM model_versions v CROSS JOIN (VALUES (0), (1)) AS lanes (lane)
     CROSS JOIN LATERAL (
        SELECT FROM job_ready r WHERE r.version_id = v.id AND r.lane = lanes.lane
         ORDER BY r.priority, r.rank LIMIT 1) one
    """
)

_DEPTHS = text(
    """
    WITH depths AS (
        SELECT version_id, lane, 'ready' AS place, count(*) AS jobs,
               min(uuid_extract_timestamp(job_id)) AS oldest FROM job_ready GROUP BY 1, 2
        UNION ALL SELECT version_id, lane, 'deferred', count(*), NULL FROM job_deferred GROUP BY 1, 2
        UNION ALL SELECT version_id, lane, 'leased', count(*), NULL FROM job_leases GROUP BY 1, 2
    ), served AS (
        SELECT DISTINCT unnest(queues) AS queue FROM workers WHERE state = 'ready'
    )
    SELECT v.model, l.lane, p.place, coalesce(sum(d.jobs), 0)::bigint AS jobs,
           greatest(extract(epoch FROM clock_timestamp() - min(d.oldest)), 0)::float AS oldest_s,
           coalesce(sum(d.jobs) FILTER (
               WHERE d.place = 'ready'
                 AND v.device || CASE d.lane WHEN 0 THEN '.interactive' ELSE '.batch' END
                     NOT IN (SELECT queue FROM served)), 0)::bigint AS unserved
      FROM model_versions v CROSS JOIN (VALUES (0), (1)) AS l (lane)
     CROSS JOIN (VALUES ('ready'), ('deferred'), ('leased')) AS p (place)
      LEFT JOIN depths d ON d.version_id = v.id AND d.lane = l.lane AND d.place = p.place
     GROUP BY 1, 2, 3
    """
)

_LIVE_WORKERS = text(
    """
    SELECT pool, state, count(*) AS workers FROM workers WHERE state IN ('ready', 'draining') GROUP BY 1, 2
    """
)

_FORGET_KEYS = text("DELETE FROM idempotency_keys WHERE created_at < now() - make_interval(hours => :hours)")
_FORGET_WORKERS = text(
    """
    DELETE FROM workers w
     WHERE state IN ('dead', 'stopped') AND heartbeat_at < now() - interval '1 hour'
       AND NOT EXISTS (SELECT FROM job_leases l WHERE l.worker_id = w.id)
    """
)


@contextmanager
def only_one(engine: Engine, lock: int) -> Iterator[bool]:
    """Yields whether this process got the advisory lock; it is held until the block ends.

    The lock is a transaction's: a session's would stay with the pooler, if there is one. The transaction has
    no snapshot while it waits, so it holds up no vacuum.
    """
    with transaction(engine) as connection:
        connection.execute(text("SET LOCAL idle_in_transaction_session_timeout = 0"))
        yield connection.execute(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": lock}).scalar_one()


def now(engine: Engine) -> datetime:
    """The database's clock."""
    with connect(engine) as connection:
        moment: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return moment


def promote(engine: Engine, limit: int = 1000) -> int:
    """Deferred → ready for what is due. Returns how many."""
    with connect(engine) as connection:
        return len(connection.execute(_PROMOTE, {"limit": limit}).all())


def age(engine: Engine, after_s: float, limit: int = 1000) -> int:
    """Move up what has waited `after_s` for each priority it is to gain and is overtaken by others.

    Returns how many moved, by one priority each: at most `limit` of each version, lane and priority.
    """
    with connect(engine) as connection:
        return connection.execute(_AGE, {"after_s": after_s, "limit": limit}).rowcount


def expire(engine: Engine, limit: int = 1000) -> list[UUID]:
    """Ready or deferred → results as `expired` for what waited longer than its `queue_ttl_s`."""
    with connect(engine) as connection:
        ready = connection.execute(_EXPIRE_READY, {"limit": limit}).scalars().all()
        deferred = connection.execute(_EXPIRE_DEFERRED, {"limit": limit}).scalars().all()
    return [*ready, *deferred]


def waiting(engine: Engine) -> list[tuple[ModelVersion, Lane]]:
    """Every model version and lane with at least one ready job."""
    with connect(engine) as connection:
        rows = connection.execute(_WAITING).all()
    return [(version_from_row(row), Lane(row.lane)) for row in rows]


@dataclass(frozen=True, slots=True)
class Depth:
    """What is in one place now, of one model and lane."""

    jobs: int
    oldest_s: float
    """Seconds since the oldest was submitted; 0 unless the place is `ready`."""
    unserved: int
    """How many are ready, and no live worker listens to their queue."""


def depths(engine: Engine) -> dict[tuple[str, Lane, str], Depth]:
    """What is in each place now, by (model, lane, place), of every registered model."""
    with connect(engine) as connection:
        return {
            (row.model, Lane(row.lane), row.place): Depth(row.jobs, row.oldest_s or 0.0, row.unserved)
            for row in connection.execute(_DEPTHS)
        }


def live_workers(engine: Engine) -> dict[tuple[str, str], int]:
    """How many children are alive, by (pool, state)."""
    with connect(engine) as connection:
        return {(row.pool, row.state): row.workers for row in connection.execute(_LIVE_WORKERS)}


def forget_idempotency_keys(engine: Engine, hours: int) -> int:
    """Delete keys older than `hours`. Returns how many."""
    with connect(engine) as connection:
        return connection.execute(_FORGET_KEYS, {"hours": hours}).rowcount


def forget_workers(engine: Engine) -> int:
    """Delete workers that ended over an hour ago and hold nothing. Returns how many."""
    with connect(engine) as connection:
        return connection.execute(_FORGET_WORKERS).rowcount
