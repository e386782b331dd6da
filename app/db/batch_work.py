"""The SQL of the clerk's leases: which batch a clerk works on, fenced by an epoch as jobs are.

A row of `batch_work` is a batch that is not at its end. Every write of a clerk begins with `hold`, which
finds no row once the lease is somebody else's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from app.db.engine import connect
from app.domain.batch_states import ENDED, BatchStatus

# A held row is due never: whoever makes it due meanwhile (a cancel) is so seen when it is let go.
_CLAIM = text(
    """
    WITH alive AS MATERIALIZED (
        SELECT id FROM workers WHERE id = :worker_id AND state = 'ready'
    ), due AS MATERIALIZED (
        SELECT batch_id FROM batch_work
         WHERE due_at <= now() AND worker_id IS NULL AND EXISTS (SELECT FROM alive)
         ORDER BY due_at LIMIT 1 FOR UPDATE SKIP LOCKED
    )
    UPDATE batch_work w
       SET worker_id = :worker_id, epoch = nextval('lease_epoch'), due_at = 'infinity'
      FROM due WHERE w.batch_id = due.batch_id
    RETURNING w.batch_id, w.epoch
    """
)
_HOLD = text("SELECT epoch FROM batch_work WHERE batch_id = :batch_id AND epoch = :epoch FOR NO KEY UPDATE")
_BATCH = text("SELECT *, now() AS now FROM batches WHERE id = :batch_id")
_BATCH_LOCKED = text("SELECT *, now() AS now FROM batches WHERE id = :batch_id FOR NO KEY UPDATE")
_LET_GO = text(
    """
    UPDATE batch_work
       SET worker_id = NULL, epoch = NULL, due_at = least(due_at, now() + make_interval(secs => :delay_s))
     WHERE batch_id = :batch_id AND epoch = :epoch
    """
)
_END = text("DELETE FROM batch_work WHERE batch_id = :batch_id AND epoch = :epoch")
_ENDED = """(SELECT coalesce(sum(t.succeeded + t.failed + t.canceled + t.expired), 0)
               FROM batch_tallies t WHERE t.batch_id = b.id)"""
_NOTICE = text(
    f"""
    UPDATE batch_work w SET due_at = now()
      FROM batches b
     WHERE b.id = w.batch_id AND w.worker_id IS NULL AND w.due_at > now()
       AND b.status IN ('in_progress', 'cancelling') AND b.ingested = b.total AND b.total = {_ENDED}
    """
)
_DUE = text("SELECT EXISTS (SELECT FROM batch_work WHERE due_at <= now() AND worker_id IS NULL)")
# A clerk that froze within a transaction still locks its row, until Postgres ends its session: the others'
# are not kept waiting for it.
_RESCUE = text(
    """
    WITH lost AS MATERIALIZED (
        SELECT batch_id FROM batch_work w
         WHERE worker_id IS NOT NULL
           AND NOT EXISTS (
               SELECT FROM workers k WHERE k.id = w.worker_id AND k.state IN ('ready', 'draining'))
           FOR NO KEY UPDATE OF w SKIP LOCKED
    )
    UPDATE batch_work w SET worker_id = NULL, epoch = NULL, due_at = now()
      FROM lost WHERE w.batch_id = lost.batch_id
    RETURNING w.batch_id
    """
)
_DEPTHS = text(
    """
    SELECT b.status, count(*) AS batches FROM batch_work w JOIN batches b ON b.id = w.batch_id GROUP BY 1
    """
)
# Only what is older than a minute: a rate is measured by the newer ones.
_COMPACT = text(
    """
    WITH old AS (
        DELETE FROM batch_tallies
         WHERE batch_id = :batch_id AND at < now() - interval '1 minute'
        RETURNING *
    )
    INSERT INTO batch_tallies (batch_id, at, succeeded, failed, canceled, expired)
    SELECT batch_id, max(at), sum(succeeded), sum(failed), sum(canceled), sum(expired)
      FROM old GROUP BY batch_id
    """
)
_COUNTS = text(
    """
    SELECT coalesce(sum(succeeded), 0)::bigint AS succeeded, coalesce(sum(failed), 0)::bigint AS failed,
           coalesce(sum(canceled), 0)::bigint AS canceled, coalesce(sum(expired), 0)::bigint AS expired
      FROM batch_tallies WHERE batch_id = :batch_id
    """
)


@dataclass(frozen=True, slots=True)
class Lease:
    """A batch that a clerk works on. `(batch_id, epoch)` is the fencing token."""

    batch_id: UUID
    epoch: int


class LeaseLost(Exception):
    """The batch is somebody else's by now: stop, and write nothing."""


def claim(engine: Engine, worker_id: UUID) -> Lease | None:
    """Lease the batch that is due the longest. None: none is due, or this worker was declared dead."""
    with connect(engine) as connection:
        row = connection.execute(_CLAIM, {"worker_id": worker_id}).one_or_none()
    return None if row is None else Lease(row.batch_id, row.epoch)


def read(engine: Engine, batch_id: UUID) -> Any:
    """The batch's row as it is, with the database's `now`."""
    with connect(engine) as connection:
        return connection.execute(_BATCH, {"batch_id": batch_id}).one()


def find(engine: Engine, batch_id: UUID) -> Any | None:
    """As `read`; None if there is no such batch any more."""
    with connect(engine) as connection:
        return connection.execute(_BATCH, {"batch_id": batch_id}).one_or_none()


def hold(connection: Connection, lease: Lease) -> Any:
    """Begin a write: nobody else can take or change the batch until this transaction ends.

    Returns the batch's row as in `read`. Raises `LeaseLost`.
    """
    parameters = {"batch_id": lease.batch_id, "epoch": lease.epoch}
    if connection.execute(_HOLD, parameters).one_or_none() is None:
        raise LeaseLost
    return connection.execute(_BATCH_LOCKED, parameters).one()


def let_go(engine: Engine, lease: Lease, delay_s: float) -> None:
    """Give the batch back; it is due in `delay_s` seconds, or sooner if somebody said so meanwhile."""
    with connect(engine) as connection:
        connection.execute(_LET_GO, {"batch_id": lease.batch_id, "epoch": lease.epoch, "delay_s": delay_s})


def end(connection: Connection, lease: Lease) -> None:
    """The batch is at its end: nobody works on it any more."""
    connection.execute(_END, {"batch_id": lease.batch_id, "epoch": lease.epoch})


def notice(engine: Engine) -> int:
    """Batches whose jobs have all ended are due at once. Returns how many became so."""
    with connect(engine) as connection:
        return connection.execute(_NOTICE).rowcount


def any_due(engine: Engine) -> bool:
    """Whether a batch waits for a clerk."""
    with connect(engine) as connection:
        return connection.execute(_DUE).scalar_one()


def rescue(engine: Engine) -> Sequence[UUID]:
    """Batches of clerks that are dead, stopped or unknown are due for others. Returns which."""
    with connect(engine) as connection:
        return connection.execute(_RESCUE).scalars().all()


def depths(engine: Engine) -> dict[str, int]:
    """How many batches that have not ended are in each status that such a batch may have."""
    with connect(engine) as connection:
        found = {row.status: row.batches for row in connection.execute(_DEPTHS)}
    return dict.fromkeys((status.value for status in BatchStatus if status not in ENDED), 0) | found


def compact(engine: Engine, batch_id: UUID) -> None:
    """Add a batch's older tallies up into one."""
    with connect(engine) as connection:
        connection.execute(_COMPACT, {"batch_id": batch_id})


def counts(engine: Engine, batch_id: UUID) -> Any:
    """How many of the batch's jobs `succeeded`, `failed`, were `canceled`, `expired`."""
    with connect(engine) as connection:
        return connection.execute(_COUNTS, {"batch_id": batch_id}).one()
