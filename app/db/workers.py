"""The SQL of the `workers` table: one row per worker process."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from app.db.engine import connect
from app.domain.stages import WorkerIdentity

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
    RETURNING state
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
_STOP = text("UPDATE workers SET state = 'stopped' WHERE id = :id AND state IN ('ready', 'draining')")
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
    """
)
_LIST = text(
    """
    SELECT w.id, w.name, w.host, w.pid, w.pool, w.purchase, w.device, w.queues, w.state,
           w.started_at, w.heartbeat_at, w.models, v.model, v.version,
           cardinality(w.batch) AS batch_size
      FROM workers w LEFT JOIN model_versions v
           ON v.id = w.batch_version_id AND cardinality(w.batch) > 0
     ORDER BY w.started_at DESC
    """
)


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


def heartbeat(engine: Engine, worker_id: UUID, models: dict[str, Any]) -> str | None:
    """Say "still here", and which models are loaded. Returns the state, or None if declared dead."""
    with connect(engine) as connection:
        return connection.execute(
            _HEARTBEAT, {"id": worker_id, "models": orjson.dumps(models).decode()}
        ).scalar_one_or_none()


def mark(engine: Engine, worker_id: UUID, batch: Sequence[UUID], budget_s: float) -> frozenset[UUID]:
    """Note which jobs are about to run, and within how many seconds they must end. Returns those that the
    worker holds and somebody asked to cancel.
    """
    with connect(engine) as connection:
        asked = connection.execute(_MARK, {"id": worker_id, "batch": list(batch), "budget_s": budget_s})
        return frozenset(asked.scalars())


def stop(engine: Engine, worker_id: UUID) -> None:
    """A clean goodbye: whatever it still holds may be taken at once."""
    with connect(engine) as connection:
        connection.execute(_STOP, {"id": worker_id})


def siblings(engine: Engine, worker: WorkerIdentity) -> list[tuple[UUID, int]]:
    """(id, pid) of the other live workers on this host."""
    with connect(engine) as connection:
        rows = connection.execute(_SIBLINGS, {"host": worker.host, "id": worker.id}).all()
    return [(row.id, row.pid) for row in rows]


def bury(engine: Engine, worker_ids: Sequence[UUID]) -> None:
    """Declare these dead: somebody saw that their processes are gone."""
    with connect(engine) as connection:
        connection.execute(_BURY, {"ids": list(worker_ids)})


def list_all(engine: Engine) -> list[dict[str, Any]]:
    """Every known worker, newest first, as plain values."""
    with connect(engine) as connection:
        return [dict(row._mapping) for row in connection.execute(_LIST)]
