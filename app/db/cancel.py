"""The SQL of cancel: a waiting job ends at once; a running one is asked to, and settle decides."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from app.db.engine import connect
from app.db.outbox import tell_of_jobs
from app.db.tally import tally
from app.domain.states import JobStatus

# What `{chosen}` says of a waiting job's `job_id`: which of them end.
_END = f"""
    WITH ready AS (
        DELETE FROM job_ready WHERE {{chosen_ready}} RETURNING job_id, lane, tenant_id
    ), deferred AS (
        DELETE FROM job_deferred WHERE {{chosen_deferred}} RETURNING job_id, lane, tenant_id
    ), taken AS (
        SELECT job_id, lane, tenant_id, 'canceled' AS status FROM ready
         UNION ALL SELECT job_id, lane, tenant_id, 'canceled' FROM deferred
    ), ended AS (
        INSERT INTO job_results (job_id, status, tenant_id) SELECT job_id, status, tenant_id FROM taken
        RETURNING job_id, status
    ), {tell_of_jobs("ended", "job.completed")}, {tally("taken")}
"""
_THESE = "job_id = ANY (CAST(:ids AS uuid[]))"
_CANCEL = text(
    f"""{_END.format(chosen_ready=_THESE, chosen_deferred=_THESE)}, asked AS (
        UPDATE job_leases SET cancel_requested = true WHERE {_THESE}
        RETURNING job_id
    )
    SELECT job_id, status FROM ended
    UNION ALL SELECT job_id, 'running' FROM asked
    UNION ALL SELECT job_id, status FROM job_results WHERE {_THESE}
    """
)
# A batch's jobs are a range of keys. What a worker is claiming now is left to it, and asked later.
_SOME_OF_RANGE = """job_id IN (
            SELECT job_id FROM {place} WHERE job_id > :above AND job_id <= :last
             ORDER BY job_id LIMIT :limit FOR UPDATE SKIP LOCKED)"""
_CANCEL_RANGE = text(
    _END.format(
        chosen_ready=_SOME_OF_RANGE.format(place="job_ready"),
        chosen_deferred=_SOME_OF_RANGE.format(place="job_deferred"),
    )
    + "SELECT job_id FROM ended"
)
_ASK_RANGE = text(
    """
    UPDATE job_leases SET cancel_requested = true
     WHERE job_id > :above AND job_id <= :last AND NOT cancel_requested
    """
)
_ASKED = text("SELECT job_id FROM job_leases WHERE worker_id = :worker_id AND cancel_requested")

# A job that moves while we look (claimed, released) is in no place of this statement's snapshot.
_LOOKS = 10


def cancel(engine: Engine, job_id: UUID) -> JobStatus | None:
    """End the job or ask its worker to. Returns the status now: `running` means it was asked.

    Idempotent; a job that ended keeps its end. None: no such job.
    """
    return cancel_many(engine, [job_id]).get(job_id)


def cancel_many(engine: Engine, job_ids: Sequence[UUID]) -> dict[UUID, JobStatus]:
    """As `cancel`, for each of these; what is no job is not in the answer."""
    found: dict[UUID, JobStatus] = {}
    missing = list(job_ids)
    with connect(engine) as connection:
        for _ in range(_LOOKS):
            for row in connection.execute(_CANCEL, {"ids": missing}):
                found.setdefault(row.job_id, JobStatus(row.status))
            missing = [job_id for job_id in missing if job_id not in found]
            if not missing:
                break
    return found


def cancel_range(connection: Connection, above: UUID, last: UUID, limit: int) -> list[UUID]:
    """End up to `limit` waiting jobs with ids in (above, last] of each kind of waiting. Returns which."""
    parameters = {"above": above, "last": last, "limit": limit}
    return list(connection.execute(_CANCEL_RANGE, parameters).scalars())


def ask_range(connection: Connection, above: UUID, last: UUID) -> int:
    """Ask the workers of all running jobs with ids in (above, last] to stop. Returns how many were asked."""
    return connection.execute(_ASK_RANGE, {"above": above, "last": last}).rowcount


def asked(engine: Engine, worker_id: UUID) -> frozenset[UUID]:
    """The jobs this worker holds that somebody asked to cancel."""
    with connect(engine) as connection:
        return frozenset(connection.execute(_ASKED, {"worker_id": worker_id}).scalars())
