"""The SQL of the `workers` table: one row per worker process."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from app.db import audit
from app.db.engine import connect, rows, transaction
from app.domain.draining import DrainCause
from app.domain.retry import RetryPolicy
from app.domain.stages import ClaimedJob, WorkerIdentity

_REGISTER = text(
    """
    INSERT INTO workers (id, name, host, pid, pool, purchase, device, queues, machine, state)
    VALUES (:id, :name, :host, :pid, :pool, :purchase, :device, :queues, :machine, 'ready')
    """
)
_HEARTBEAT = text(
    """
    UPDATE workers SET heartbeat_at = now(), models = CAST(:models AS jsonb)
     WHERE id = :id AND state IN ('ready', 'draining')
    RETURNING state, extract(epoch FROM drain_until - now())::float8 AS left_s
    """
)
# The note is for whoever buries this process, so it must be seen at once but need not survive a crash of
# Postgres: nobody waits for the disk.
_MARK = text(
    """
    WITH marked AS (
        UPDATE workers
           SET batch = CAST(:batch AS uuid[]),
               batch_deadline_at = now() + make_interval(secs => :budget_s)
          FROM (SELECT set_config('synchronous_commit', 'off', true)) hurry
         WHERE id = :id
    )
    SELECT job_id FROM job_leases WHERE worker_id = :id AND cancel_requested
    """
)
# As settle does, when it can't be written: what ran has ended, and has no deadline any more. Unless the
# worker has taken up the next ones meanwhile.
_PUT_DOWN = text(
    """
    UPDATE workers SET batch = '{}', batch_deadline_at = NULL
     WHERE id = :id AND batch <@ CAST(:batch AS uuid[]) AND batch_deadline_at IS NOT NULL
    """
)
_DRAIN = text(
    """
    UPDATE workers
       SET state = 'draining', drain_cause = :cause,
           drain_until = now() + make_interval(secs => CAST(:left_s AS float8))
     WHERE id = :id AND state IN ('ready', 'draining')
    """
)
# A worker leaves as a whole: its children are those of one host whose names differ only in the slot.
_TELL = """
    UPDATE workers w
       SET state = 'draining', drain_cause = 'operator',
           drain_until = now() + make_interval(secs => CAST(:within_s AS float8))
      FROM (SELECT DISTINCT host, split_part(name, '/', 1) AS worker FROM workers
             WHERE state = 'ready' AND (%s)) named
     WHERE w.state = 'ready' AND w.host = named.host AND split_part(w.name, '/', 1) = named.worker
    RETURNING w.name
"""
_TELL_POOL = text(_TELL % "pool = :pool")
_TELL_NAMED = text(_TELL % "name = :name OR split_part(name, '/', 1) = :name")
_TELL_ONE = text(_TELL % "id = :id")
_LEASES = text("SELECT job_id, epoch FROM job_leases WHERE worker_id = :id")
_STOP = text(
    """
    UPDATE workers SET state = 'stopped', drain_cause = coalesce(:cause, drain_cause)
     WHERE id = :id AND state IN ('ready', 'draining')
    """
)
_SIBLINGS = text(
    "SELECT id, pid FROM workers WHERE host = :host AND id <> :id AND state IN ('ready', 'draining')"
)
# A process that is found dead right after its batch's deadline was ended by its own watchdog. One found
# much later (the whole machine was down) may have died of anything.
_BURY = text(
    """
    UPDATE workers
       SET state = 'dead',
           cause = CASE WHEN now() BETWEEN batch_deadline_at
                                       AND batch_deadline_at + interval '15 seconds'
                        THEN 'timeout' ELSE 'crashed' END
     WHERE id = ANY (:ids) AND state IN ('ready', 'draining')
    RETURNING cause
    """
)
_LIST = text(
    """
    SELECT w.id, w.name, w.host, w.pid, w.pool, w.purchase, w.device, w.queues, w.state,
           w.started_at, w.heartbeat_at, w.models, v.model, v.version,
           cardinality(w.batch) AS batch_size,
           CASE WHEN w.state <> 'ready' THEN w.drain_cause END AS drain_cause, w.drain_until
      FROM workers w LEFT JOIN model_versions v
           ON v.id = w.batch_version_id AND cardinality(w.batch) > 0
     WHERE CAST(:id AS uuid) IS NULL OR w.id = :id
     ORDER BY w.started_at DESC
    """
)


@dataclass(frozen=True, slots=True)
class Seen:
    """What a heartbeat finds on the worker's own row. `left_s`: until it has to be gone, if that is known."""

    state: str
    left_s: float | None


def register(engine: Engine, worker: WorkerIdentity) -> None:
    """Announce a worker process as ready."""
    with connect(engine) as connection:
        connection.execute(
            _REGISTER,
            {
                "id": worker.id,
                "name": worker.name,
                "host": worker.host,
                "pid": worker.pid,
                "pool": worker.pool,
                "purchase": worker.purchase,
                "device": worker.device,
                "queues": list(worker.queues),
                "machine": worker.machine,
            },
        )


def heartbeat(engine: Engine, worker_id: UUID, models: dict[str, Any]) -> Seen | None:
    """Say "still here", and which models are loaded. Returns None if declared dead."""
    with connect(engine) as connection:
        row = connection.execute(
            _HEARTBEAT, {"id": worker_id, "models": orjson.dumps(models).decode()}
        ).one_or_none()
    return None if row is None else Seen(row.state, row.left_s)


def drain(engine: Engine, worker_id: UUID, cause: DrainCause, left_s: float | None) -> None:
    """Note that this worker claims nothing any more, and in how many seconds it has to be gone, if known."""
    with connect(engine) as connection:
        connection.execute(_DRAIN, {"id": worker_id, "cause": cause.value, "left_s": left_s})


def tell_to_drain(
    engine: Engine,
    *,
    name: str | None = None,
    pool: str | None = None,
    worker_id: UUID | None = None,
    within_s: float | None = None,
    subject: str,
    actor: str,
) -> list[str]:
    """Tell whole workers to leave, within so many seconds or in their own time: those that `name` names (a
    worker, or one of its children), those of a pool, or that of one child. Returns the names of the children
    that were told; they hear of it with their next heartbeat. `subject`: what the audit log calls them.
    """
    statement = _TELL_ONE if worker_id else _TELL_POOL if pool is not None else _TELL_NAMED
    named: dict[str, Any] = {"id": worker_id} if worker_id else {"pool": pool} if pool else {"name": name}
    with transaction(engine) as connection:
        told = sorted(connection.execute(statement, {**named, "within_s": within_s}).scalars())
        if told:
            audit.write(connection, actor, "workers.drain", subject, workers=told, within_s=within_s)
    return told


def leases(engine: Engine, worker_id: UUID) -> list[ClaimedJob]:
    """All that the worker holds leases on: by id and epoch alone, which is enough to give them back."""
    with connect(engine) as connection:
        rows = connection.execute(_LEASES, {"id": worker_id}).all()
    return [
        ClaimedJob(
            id=row.job_id,
            epoch=row.epoch,
            input=None,
            attempt=0,
            crashes=0,
            batch_cap=None,
            execution_timeout_s=0.0,
            retry=RetryPolicy(),
        )
        for row in rows
    ]


def mark(engine: Engine, worker_id: UUID, batch: Sequence[UUID], budget_s: float) -> frozenset[UUID]:
    """Note which jobs are about to run, and within how many seconds they must end. Returns those that the
    worker holds and somebody asked to cancel.
    """
    asked = rows(engine, _MARK, {"id": worker_id, "batch": list(batch), "budget_s": budget_s})
    return frozenset(row.job_id for row in asked)


def put_down(engine: Engine, worker_id: UUID, batch: Sequence[UUID]) -> None:
    """Note that these jobs have run: they are no suspects, however long it takes to settle them."""
    with connect(engine) as connection:
        connection.execute(_PUT_DOWN, {"id": worker_id, "batch": list(batch)})


def stop(engine: Engine, worker_id: UUID, cause: DrainCause | None = None) -> None:
    """A clean goodbye, and why: whatever it still holds may be taken at once."""
    with connect(engine) as connection:
        connection.execute(_STOP, {"id": worker_id, "cause": cause and cause.value})


def siblings(engine: Engine, worker: WorkerIdentity) -> list[tuple[UUID, int]]:
    """(id, pid) of the other live workers on this host."""
    with connect(engine) as connection:
        rows = connection.execute(_SIBLINGS, {"host": worker.host, "id": worker.id}).all()
    return [(row.id, row.pid) for row in rows]


def bury(engine: Engine, worker_ids: Sequence[UUID]) -> list[str]:
    """Declare these dead: somebody saw that their processes are gone. Returns the cause of each that nobody
    had declared dead before: `timeout` or `crashed`.
    """
    with connect(engine) as connection:
        return list(connection.execute(_BURY, {"ids": list(worker_ids)}).scalars())


def list_all(engine: Engine, worker_id: UUID | None = None) -> list[dict[str, Any]]:
    """Every known worker, or this one, newest first, as plain values."""
    with connect(engine) as connection:
        return [dict(row._mapping) for row in connection.execute(_LIST, {"id": worker_id})]
