"""The SQL by which a batch gets on: validated, cut short, ended. Each is one transaction under the lease."""

from collections.abc import Callable, Iterable
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Engine, text

from app.db import files
from app.db.batch_work import Lease, end, hold
from app.db.engine import connect, copy_in, transaction
from app.db.files import NewFile
from app.db.outbox import tell_of_batch
from app.domain.ids import boundary

_ERRORS = "COPY batch_errors (batch_id, line, code, message, param, custom_id, after) FROM STDIN"
_VALIDATED = text(
    """
    UPDATE batches
       SET status = 'in_progress', in_progress_at = now(), total = :total, invalid = :invalid,
           versions = CAST(:versions AS json)
     WHERE id = :id AND status = 'validating'
    RETURNING id
    """
)
_GATHERED = text("UPDATE batches SET input_file_id = :file_id WHERE id = :id")
_FINALIZING = text(
    """
    UPDATE batches SET status = 'finalizing', finalizing_at = now()
     WHERE id = :id AND status = 'in_progress'
    """
)
# The jobs that it has are all that it will have.
_CUT_SHORT = text("UPDATE batches SET total = ingested WHERE id = :id")
_ERROR = text(
    """
    INSERT INTO batch_errors (batch_id, line, code, message) VALUES (:id, 0, :code, :message)
    ON CONFLICT DO NOTHING
    """
)
_CUT = text("SELECT EXISTS (SELECT FROM batch_errors WHERE batch_id = :id AND line = 0)")
_END = text(
    f"""
    WITH ended AS (
        UPDATE batches b
           SET status = s.status, total = coalesce(b.total, 0),
               invalid = coalesce(CAST(:invalid AS integer), b.invalid),
               estimate = coalesce(CAST(:estimate AS json), b.estimate),
               output_file_id = CAST(:output_file_id AS uuid), error_file_id = CAST(:error_file_id AS uuid),
               completed_at = CASE WHEN s.status = 'completed' THEN now() END,
               failed_at = CASE WHEN s.status = 'failed' THEN now() END,
               expired_at = CASE WHEN s.status = 'expired' THEN now() END,
               cancelled_at = CASE WHEN s.status = 'cancelled' THEN now() END
          FROM (SELECT CASE WHEN status = 'cancelling' THEN 'cancelled' ELSE :status END AS status
                  FROM batches WHERE id = :id) s
         WHERE b.id = :id
        RETURNING b.id, b.tenant_id, b.webhook, b.status
    ), {tell_of_batch("ended")}
    SELECT status, EXISTS (SELECT FROM audience) AS told FROM ended
    """
)
_SECONDS = text(
    """
    SELECT avg(a.run_s / a.batch_size) AS seconds
      FROM (SELECT id FROM jobs WHERE id >= :since AND version_id = :version_id ORDER BY id DESC LIMIT 1000) j
      JOIN job_attempts a ON a.job_id = j.id AND a.job_id >= :since
     WHERE a.outcome = 'succeeded' AND a.batch_size > 0
    """
)
_PRUNE = text(
    """
    WITH old AS MATERIALIZED (
        SELECT id FROM batches b
         WHERE id < :horizon AND NOT EXISTS (SELECT FROM batch_work w WHERE w.batch_id = b.id)
         ORDER BY id LIMIT :limit
    ), errors AS (
        DELETE FROM batch_errors e USING old WHERE e.batch_id = old.id
    ), tallies AS (
        DELETE FROM batch_tallies t USING old WHERE t.batch_id = old.id
    )
    DELETE FROM batches b USING old WHERE b.id = old.id
    """
)

Row = tuple[int, str, str, str | None, str | None, int]
"""What is wrong with a line: line, code, message, param, custom_id, number of the job before it."""


def validated(
    engine: Engine, lease: Lease, total: int, invalid: int, versions: dict[str, int], errors: Iterable[Row]
) -> bool:
    """The file is valid, but for these lines: its jobs may be made. False if the batch was cancelled."""
    with transaction(engine) as connection:
        hold(connection, lease)
        parameters = {
            "id": lease.batch_id,
            "total": total,
            "invalid": invalid,
            "versions": orjson.dumps(versions).decode(),
        }
        if connection.execute(_VALIDATED, parameters).one_or_none() is None:
            return False
        _write_errors(connection, lease.batch_id, errors)
    return True


def gathered(engine: Engine, lease: Lease, new: NewFile) -> None:
    """The input file of a retry is written."""
    with transaction(engine) as connection:
        hold(connection, lease)
        files.keep(connection, new)
        connection.execute(_GATHERED, {"id": lease.batch_id, "file_id": new.id})


def finalizing(engine: Engine, lease: Lease) -> None:
    """All of its jobs have ended, and its files are being written."""
    with transaction(engine) as connection:
        hold(connection, lease)
        connection.execute(_FINALIZING, {"id": lease.batch_id})


def cut_short(engine: Engine, lease: Lease, code: str, message: str) -> None:
    """The rest of the file can't become jobs: the batch keeps those it has, and fails once they ended."""
    with transaction(engine) as connection:
        hold(connection, lease)
        connection.execute(_CUT_SHORT, {"id": lease.batch_id})
        connection.execute(_ERROR, {"id": lease.batch_id, "code": code, "message": message})


def was_cut_short(engine: Engine, batch_id: UUID) -> bool:
    """Whether `cut_short` was called for it."""
    with connect(engine) as connection:
        return connection.execute(_CUT, {"id": batch_id}).scalar_one()


def under(engine: Engine, lease: Lease, write: Callable[[Connection, Any], Any]) -> Any:
    """`write(connection, batch)` in a transaction under the lease. Raises `LeaseLost`."""
    with transaction(engine) as connection:
        return write(connection, hold(connection, lease))


def ended(
    engine: Engine,
    lease: Lease,
    status: str,
    *,
    output: NewFile | None = None,
    error: NewFile | None = None,
    invalid: int | None = None,
    estimate: dict[str, Any] | None = None,
    errors: Iterable[Row] = (),
) -> Any:
    """The batch is at its end, with these files, and whoever wants to know is told, all at once.

    A batch that is being cancelled ends as `cancelled` whatever `status` says. Returns `status` and `told`.
    """
    parameters = {
        "id": lease.batch_id,
        "status": status,
        "invalid": invalid,
        "estimate": None if estimate is None else orjson.dumps(estimate).decode(),
        "output_file_id": output.id if output else None,
        "error_file_id": error.id if error else None,
    }
    with transaction(engine) as connection:
        hold(connection, lease)
        for new in (output, error):
            if new is not None:
                files.keep(connection, new)
        _write_errors(connection, lease.batch_id, errors)
        row = connection.execute(_END, parameters).one()
        end(connection, lease)
    return row


def seconds_an_item(engine: Engine, version_id: int, since: Any) -> float | None:
    """What a job of this version took lately, its part of the micro-batch's time. None: there was none."""
    with connect(engine) as connection:
        parameters = {"version_id": version_id, "since": boundary(since)}
        return connection.execute(_SECONDS, parameters).scalar_one()


def prune(engine: Engine, horizon: Any, limit: int = 1000) -> int:
    """Forget batches that were made before `horizon` and have ended. Returns how many."""
    total = 0
    with connect(engine) as connection:
        while gone := connection.execute(_PRUNE, {"horizon": boundary(horizon), "limit": limit}).rowcount:
            total += gone
    return total


def _write_errors(connection: Connection, batch_id: UUID, errors: Iterable[Row]) -> None:
    copy_in(connection, _ERRORS, (_error_row(batch_id.hex, row) for row in errors))


def _error_row(batch_id: str, row: Row) -> str:
    return "\t".join([batch_id, *(_text(value) for value in row)])


def _text(value: int | str | None) -> str:
    if value is None:
        return "\\N"
    return (
        str(value)
        .replace("\\", "\\\\")
        .replace("\t", "\\t")
        .replace("\n", "\\n")
        .replace("\r", "\\r")
        .replace("\0", "")
    )
