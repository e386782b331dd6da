"""The SQL of rescue: what a dead worker held goes back to the queue, or ends if it keeps killing.

A worker is dead when its heartbeat is older than the lease's life, when it overran its batch's
deadline, or when somebody on its machine saw that its process is gone. Jobs it had in hand are
suspects: they are charged a crash and tried in ever smaller batches. Jobs it had only leased go back
as they were.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.db.outbox import tell_of_jobs
from app.db.tally import tally
from app.domain.states import JobStatus

_BURY = text(
    """
    UPDATE workers
       SET state = 'dead',
           cause = CASE WHEN heartbeat_at < now() - make_interval(secs => :lease_ttl_s)
                        THEN 'lost' ELSE 'timeout' END
     WHERE state IN ('ready', 'draining')
       AND (heartbeat_at < now() - make_interval(secs => :lease_ttl_s)
            OR batch_deadline_at < now() - make_interval(secs => :grace_s))
    RETURNING id, name, cause
    """
)

# Hops over the index from one holder to the next: what each holds is not read.
_ORPHANED = text(
    """
    WITH RECURSIVE holders (worker_id) AS (
        (SELECT worker_id FROM job_leases ORDER BY worker_id LIMIT 1)
        UNION ALL
        SELECT (SELECT l.worker_id FROM job_leases l WHERE l.worker_id > h.worker_id
                 ORDER BY l.worker_id LIMIT 1)
          FROM holders h WHERE h.worker_id IS NOT NULL
    )
    SELECT h.worker_id FROM holders h LEFT JOIN workers w ON w.id = h.worker_id
     WHERE h.worker_id IS NOT NULL AND (w.id IS NULL OR w.state IN ('dead', 'stopped'))
    """
)

# `cap` follows app/domain/retry.py:cap_after_crash; tests compare the two.
_RESCUE = text(
    f"""
    WITH dead AS MATERIALIZED (
        -- A worker that stopped on purpose (or gave up its identity) is nobody's victim: no suspects.
        SELECT id, CASE WHEN state = 'dead' THEN batch ELSE '{{}}' END AS batch,
               pool, purchase, device, cardinality(batch) AS size,
               coalesce(cause = 'timeout', false) AS overran
          FROM workers WHERE id = :worker_id AND state IN ('dead', 'stopped')
    ), taken AS (
        DELETE FROM job_leases l
         WHERE l.worker_id = :worker_id
           AND NOT EXISTS (SELECT FROM workers w WHERE w.id = :worker_id
                              AND w.state IN ('ready', 'draining'))
        RETURNING l.*
    ), judged AS (
        SELECT t.*, d.pool, d.purchase, d.device, d.size,
               coalesce(t.job_id = ANY (d.batch), false) AS suspect,
               coalesce(d.overran, false) AS overran,
               t.crashes + CASE WHEN t.job_id = ANY (d.batch) THEN 1 ELSE 0 END AS deaths
          FROM taken t LEFT JOIN dead d ON true
    ), verdict AS (
        SELECT *,
               CASE WHEN cancel_requested THEN 'canceled'
                    WHEN suspect AND overran AND size = 1 THEN 'failed'
                    WHEN suspect AND deaths >= :max_crashes THEN 'failed'
                    ELSE 'queued' END AS status,
               CASE WHEN suspect AND overran THEN 'timeout'
                    WHEN suspect THEN 'crashed'
                    ELSE 'lost' END AS outcome
          FROM judged
    ), attempted AS (
        INSERT INTO job_attempts (job_id, epoch, attempt, worker_id, pool, purchase, device,
                                  started_at, batch_size, outcome, error_code, tenant_id)
        SELECT job_id, epoch, attempt + 1, worker_id, pool, purchase, device, claimed_at,
               CASE WHEN suspect THEN size END, outcome,
               CASE WHEN status = 'failed' AND outcome = 'timeout' THEN 'execution_timeout'
                    WHEN status = 'failed' THEN 'worker_crashed' END,
               tenant_id
          FROM verdict
    ), finished AS (
        INSERT INTO job_results (job_id, status, error, started_at, epoch, device, batch_size,
                                 tenant_id)
        SELECT job_id, status,
               CASE WHEN status <> 'failed' THEN NULL
                    WHEN outcome = 'timeout' THEN json_build_object(
                        'code', 'execution_timeout',
                        'message', 'the job ran alone and did not end within its execution timeout')
                    ELSE json_build_object(
                        'code', 'worker_crashed',
                        'message', format('the worker process died %s times while it ran this job',
                                          deaths))
               END,
               claimed_at, epoch, device, CASE WHEN suspect THEN size END, tenant_id
          FROM verdict WHERE status <> 'queued'
        RETURNING job_id
    ), {tell_of_jobs("finished", "job.completed")}, {tally("verdict")}, returned AS (
        INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at,
                               attempt, crashes, batch_cap, reason, tenant_id)
        SELECT job_id, version_id, lane, priority, rank, expires_at, attempt, deaths,
               CASE WHEN NOT suspect THEN batch_cap
                    WHEN deaths >= :max_crashes - 1 THEN 1
                    ELSE greatest(1, floor(sqrt(size))) END,
               'worker_lost', tenant_id
          FROM verdict WHERE status = 'queued'
    ), progress AS (
        DELETE FROM job_progress p USING verdict v WHERE p.job_id = v.job_id
    )
    SELECT job_id, status, outcome FROM verdict
    """
)


@dataclass(frozen=True, slots=True)
class Buried:
    """A worker declared dead. `cause`: `lost` (no heartbeat) or `timeout` (past its batch's deadline)."""

    worker_id: UUID
    name: str
    cause: str


@dataclass(frozen=True, slots=True)
class RescuedJob:
    """A job taken from a dead worker. `status` is `queued` if it runs again."""

    id: UUID
    status: JobStatus
    outcome: str


def bury(engine: Engine, lease_ttl_s: float, grace_s: float) -> list[Buried]:
    """Declare dead every worker that is silent for `lease_ttl_s` or `grace_s` past its batch's deadline."""
    with connect(engine) as connection:
        rows = connection.execute(_BURY, {"lease_ttl_s": lease_ttl_s, "grace_s": grace_s}).all()
    return [Buried(row.id, row.name, row.cause) for row in rows]


def orphaned_workers(engine: Engine) -> Sequence[UUID]:
    """Workers that are dead, stopped or unknown, and still hold leases."""
    with connect(engine) as connection:
        return connection.execute(_ORPHANED).scalars().all()


def rescue(engine: Engine, worker_id: UUID, max_crashes: int) -> list[RescuedJob]:
    """Take every lease from one dead worker. Running it twice, or from two schedulers, is harmless."""
    with connect(engine) as connection:
        rows = connection.execute(_RESCUE, {"worker_id": worker_id, "max_crashes": max_crashes}).all()
    return [RescuedJob(row.job_id, JobStatus(row.status), row.outcome) for row in rows]
