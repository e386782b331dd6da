"""The SQL of cancel: a waiting job ends at once; a running one is asked to, and settle decides."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.db.outbox import tell_of_jobs
from app.domain.states import JobStatus

_CANCEL = text(
    f"""
    WITH ready AS (
        DELETE FROM job_ready WHERE job_id = ANY (CAST(:ids AS uuid[])) RETURNING job_id
    ), deferred AS (
        DELETE FROM job_deferred WHERE job_id = ANY (CAST(:ids AS uuid[])) RETURNING job_id
    ), ended AS (
        INSERT INTO job_results (job_id, status)
        SELECT job_id, 'canceled' FROM ready UNION ALL SELECT job_id, 'canceled' FROM deferred
        RETURNING job_id, status
    ), {tell_of_jobs("ended", "job.completed")}, asked AS (
        UPDATE job_leases SET cancel_requested = true WHERE job_id = ANY (CAST(:ids AS uuid[]))
        RETURNING job_id
    )
    SELECT job_id, status FROM ended
    UNION ALL SELECT job_id, 'running' FROM asked
    UNION ALL SELECT job_id, status FROM job_results WHERE job_id = ANY (CAST(:ids AS uuid[]))
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


def asked(engine: Engine, worker_id: UUID) -> frozenset[UUID]:
    """The jobs this worker holds that somebody asked to cancel."""
    with connect(engine) as connection:
        return frozenset(connection.execute(_ASKED, {"worker_id": worker_id}).scalars())
