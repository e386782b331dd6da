"""The SQL of scaling: the backlog of every queue in work-seconds, and the machines of every pool.

Units that wait ÷ units per second, as children measured them (see `app/db/speeds.py`). No input is read:
a job counts as many units as its version's usual one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.domain.lanes import Device, Lane, queue_name
from app.domain.scaling import Backlog, Due

# Deadlines are told apart to a third of their distance, which keeps the answer small whatever waits. By
# floats: the logarithm of a numeric, which `extract` gives, takes five times as long as all else here.
_BACKLOGS = text(
    """
    WITH held AS (
        SELECT version_id, lane, expires_at, 0 AS leased FROM job_ready WHERE expires_at > now()
        UNION ALL SELECT version_id, lane, expires_at, 1 FROM job_leases
    ), counted AS (
        SELECT version_id, lane,
               floor(2.5 * ln(greatest(extract(epoch FROM expires_at - now())::float8, 1))) AS distance,
               greatest(extract(epoch FROM min(expires_at) - now()), 0) AS within_s,
               count(*) AS jobs, sum(leased) AS leased
          FROM held GROUP BY 1, 2, 3
    ), speeds AS (
        SELECT version_id, sum(units) / sum(jobs) AS units_per_job, sum(units) / sum(seconds) AS units_per_s
          FROM version_speeds GROUP BY version_id
    )
    SELECT v.device, c.lane, c.within_s, c.jobs, c.leased,
           c.jobs * s.units_per_job / s.units_per_s AS work_s
      FROM counted c JOIN model_versions v ON v.id = c.version_id
      LEFT JOIN speeds s ON s.version_id = c.version_id
    """
)
_MACHINES = text(
    """
    SELECT w.pool, w.machine, bool_and(w.state = 'draining') AS draining,
           sum((SELECT count(*) FROM job_leases l WHERE l.worker_id = w.id)) AS leases
      FROM workers w
     WHERE w.state IN ('ready', 'draining') AND w.pool = ANY (:pools)
     GROUP BY 1, 2
    """
)
_DRAIN = text(
    """
    UPDATE workers SET state = 'draining', drain_cause = 'operator'
     WHERE pool = :pool AND machine = ANY (:machines) AND state = 'ready'
    """
)
_NOTE = text(
    """
    INSERT INTO pool_states (pool, desired, reason, running, starting, draining, backlog_s)
    VALUES (:pool, :desired, :reason, :running, :starting, :draining, :backlog_s)
    ON CONFLICT (pool) DO UPDATE
       SET desired = excluded.desired, reason = excluded.reason, running = excluded.running,
           starting = excluded.starting, draining = excluded.draining, backlog_s = excluded.backlog_s,
           decided_at = now()
    """
)
_STATES = text(
    """
    SELECT pool, desired, reason, running, starting, draining, backlog_s, decided_at,
           decided_at > now() - interval '60 seconds' AS fresh
      FROM pool_states
    """
)


@dataclass(frozen=True, slots=True)
class Machine:
    """The live children of one machine of a pool."""

    pool: str
    id: str
    draining: bool
    """All of its children were told to claim nothing any more."""
    leases: int


@dataclass(frozen=True, slots=True)
class PoolState:
    """What the scaler saw of a pool and decided on, in machines."""

    pool: str
    desired: int
    reason: str
    running: int
    starting: int
    draining: int
    """That still hold leases."""
    backlog_s: float


def backlogs(engine: Engine) -> dict[str, Backlog]:
    """By queue, what waits and runs; queues that hold nothing are absent."""
    found: dict[str, list[Any]] = {}
    with connect(engine) as connection:
        for row in connection.execute(_BACKLOGS):
            found.setdefault(queue_name(Device(row.device), Lane(row.lane)), []).append(row)
    return {queue: _backlog(rows) for queue, rows in found.items()}


def _backlog(rows: Sequence[Any]) -> Backlog:
    measured = [row for row in rows if row.work_s is not None]
    return Backlog(
        jobs=sum(row.jobs for row in rows),
        leased=int(sum(row.leased for row in rows)),
        unmeasured=sum(row.jobs for row in rows if row.work_s is None),
        work_s=sum(row.work_s for row in measured),
        due=tuple(Due(float(row.within_s), row.work_s) for row in measured),
    )


def machines(engine: Engine, pools: Sequence[str]) -> list[Machine]:
    """Every machine of these pools that has a live child."""
    with connect(engine) as connection:
        rows = connection.execute(_MACHINES, {"pools": list(pools)}).all()
    return [Machine(row.pool, row.machine, row.draining, int(row.leases)) for row in rows]


def drain(engine: Engine, pool: str, machines: Sequence[str]) -> None:
    """From now on these machines claim nothing. They finish what runs, give the rest back and end."""
    with connect(engine) as connection:
        connection.execute(_DRAIN, {"pool": pool, "machines": list(machines)})


def note(engine: Engine, state: PoolState) -> None:
    """Write down what was seen and decided, for `headracectl pools` and for autoscalers that ask."""
    with connect(engine) as connection:
        connection.execute(
            _NOTE,
            {
                "pool": state.pool,
                "desired": state.desired,
                "reason": state.reason,
                "running": state.running,
                "starting": state.starting,
                "draining": state.draining,
                "backlog_s": state.backlog_s,
            },
        )


def states(engine: Engine) -> Mapping[str, Any]:
    """By pool, its row with `fresh`: whether it was decided in the last minute."""
    with connect(engine) as connection:
        return {row.pool: row for row in connection.execute(_STATES)}
