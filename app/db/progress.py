"""The SQL of progress: the last thing a long prediction said of itself, one row a job."""

from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import connect

# The join on the lease keeps a zombie from talking about a job that is no longer its own.
_REPORT = text(
    """
    INSERT INTO job_progress (job_id, epoch, fraction, message, tenant_id)
    SELECT l.job_id, l.epoch, :fraction, CAST(:message AS text), l.tenant_id
      FROM job_leases l WHERE l.job_id = :job_id AND l.epoch = :epoch
    ON CONFLICT (job_id) DO UPDATE
       SET epoch = excluded.epoch, fraction = excluded.fraction, message = excluded.message,
           updated_at = now()
    """
)


def report(engine: Engine, job_id: UUID, epoch: int, fraction: float, message: str | None) -> None:
    """Note how far a running job is (0 to 1)."""
    with connect(engine) as connection:
        connection.execute(
            _REPORT, {"job_id": job_id, "epoch": epoch, "fraction": fraction, "message": message}
        )
