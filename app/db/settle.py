"""The SQL of settle: leases → results, deferred or ready, with the attempts and the outbox, in one
statement.

Only rows whose lease is removed by `(job_id, epoch)` are written. A zombie's settle removes none, and
so writes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import rows
from app.db.files import object_key, output_name
from app.db.outbox import tell_of_jobs
from app.db.tally import tally
from app.domain.stages import SettledJob, StoredOutput, WorkerIdentity
from app.domain.states import JobStatus

# A cancel request wins over whatever the attempt brought: the lease row is locked by the delete, so a
# request is either seen here or finds the job ended.
_SETTLE = f"""
    WITH incoming AS (
        SELECT * FROM unnest(
            CAST(:job_ids AS uuid[]), CAST(:epochs AS bigint[]), CAST(:statuses AS text[]),
            CAST(:outputs AS text[]), CAST(:errors AS text[]), CAST(:error_codes AS text[]),
            CAST(:outcomes AS text[]), CAST(:reasons AS text[]), CAST(:delays AS float8[]),
            CAST(:charges AS smallint[]), CAST(:batch_sizes AS integer[]), CAST(:units AS integer[]),
            CAST(:runs AS float4[]), CAST(:device_ss AS float4[])
        ) AS t (job_id, epoch, status, output, error, error_code, outcome, reason, delay_s, charge,
                batch_size, units, run_s, device_s)
    ), released AS (
        DELETE FROM job_leases l USING incoming i
         WHERE l.job_id = i.job_id AND l.epoch = i.epoch
        RETURNING l.job_id, l.epoch, l.version_id, l.lane, l.priority, l.rank, l.expires_at,
                  l.attempt, l.crashes, l.batch_cap, l.worker_id, l.claimed_at, l.tenant_id,
                  CASE WHEN l.cancel_requested THEN 'canceled' ELSE i.status END AS status,
                  CASE WHEN l.cancel_requested THEN NULL ELSE i.output END AS output,
                  CASE WHEN l.cancel_requested THEN NULL ELSE i.error END AS error,
                  i.error_code, i.outcome, i.reason, i.delay_s, i.charge,
                  i.batch_size, i.units, i.run_s, i.device_s
    ), attempted AS (
        INSERT INTO job_attempts (job_id, epoch, attempt, worker_id, pool, purchase, device,
                                  started_at, run_s, device_s, batch_size, units, outcome, error_code,
                                  tenant_id)
        SELECT job_id, epoch, attempt + 1, worker_id, CAST(:pool AS text),
               CAST(:purchase AS text), CAST(:device AS text), claimed_at, run_s, device_s,
               batch_size, units, outcome, error_code, tenant_id
          FROM released
    ), finished AS (
        INSERT INTO job_results (job_id, status, output, error, started_at, epoch, device,
                                 batch_size, units, run_s, device_s, tenant_id)
        SELECT job_id, status, CAST(output AS json), CAST(error AS json), claimed_at, epoch,
               CAST(:device AS text), batch_size, units, run_s, device_s, tenant_id
          FROM released
         WHERE status IN ('succeeded', 'failed', 'canceled')
        RETURNING job_id
    ), {tell_of_jobs("finished", "job.completed")}, {tally("released")}, deferred AS (
        INSERT INTO job_deferred (job_id, version_id, lane, priority, rank, expires_at,
                                  attempt, crashes, batch_cap, reason, tenant_id, run_at)
        SELECT job_id, version_id, lane, priority, rank, expires_at, attempt + charge, crashes,
               batch_cap, reason, tenant_id, now() + make_interval(secs => delay_s)
          FROM released
         WHERE status = 'queued' AND delay_s > 0
    ), returned AS (
        INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at,
                               attempt, crashes, batch_cap, reason, tenant_id)
        SELECT job_id, version_id, lane, priority, rank, expires_at, attempt + charge, crashes,
               batch_cap, reason, tenant_id
          FROM released
         WHERE status = 'queued' AND delay_s = 0
    ), progress AS (
        DELETE FROM job_progress p USING released r WHERE p.job_id = r.job_id
    ), empty_handed AS (
        -- Unless the worker has taken up the next ones meanwhile.
        UPDATE workers SET batch = '{{}}', batch_deadline_at = NULL
         WHERE id = :worker_id AND batch <@ CAST(:job_ids AS uuid[]) AND batch_deadline_at IS NOT NULL
    )%s
    SELECT job_id, status, job_id = ANY (ARRAY(SELECT job_id FROM told)) AS told FROM released
"""
# Objects become files by the statement that makes outputs of them. A file is here for as long as its job.
_OUTPUT_FILES = """, stored AS MATERIALIZED (
        SELECT f.* FROM unnest(
            CAST(:file_jobs AS uuid[]), CAST(:file_ids AS uuid[]), CAST(:file_tenants AS integer[]),
            CAST(:file_keys AS text[]), CAST(:file_names AS text[]), CAST(:file_sizes AS bigint[]),
            CAST(:file_sha256s AS bytea[]), CAST(:file_keeps AS float8[])
          ) AS f (job_id, id, tenant_id, key, filename, bytes, sha256, keep_s)
          JOIN released r ON r.job_id = f.job_id AND r.status = 'succeeded'
    ), kept AS (
        DELETE FROM stray_objects s USING stored WHERE s.key = stored.key
    ), filed AS (
        INSERT INTO files (id, tenant_id, purpose, filename, bytes, sha256, expires_at)
        SELECT id, tenant_id, 'job_output', filename, bytes, sha256, now() + make_interval(secs => keep_s)
          FROM stored
    )"""
_SETTLE_PLAIN = text(_SETTLE % "")
_SETTLE_WITH_FILES = text(_SETTLE % _OUTPUT_FILES)


@dataclass(frozen=True, slots=True)
class Settlement:
    """One job's row for settle. `status` is `queued` when it goes round again after `delay_s` seconds."""

    job_id: UUID
    epoch: int
    status: JobStatus
    outcome: str
    charge: int
    """1 if the attempt counts against `max_attempts`, else 0."""
    output: str | None = None
    error: str | None = None
    error_code: str | None = None
    reason: str | None = None
    delay_s: float = 0.0
    batch_size: int | None = None
    units: int | None = None
    run_s: float | None = None
    device_s: float = 0.0
    file: StoredOutput | None = None


def settle(engine: Engine, worker: WorkerIdentity, settlements: Sequence[Settlement]) -> list[SettledJob]:
    """Write how these jobs' attempts ended. Returns only those whose lease was still ours.

    If these were all that the worker has in hand, it has nothing after it: its batch and deadline are
    cleared in the same statement.
    """
    parameters: dict[str, Any] = {
        "job_ids": [row.job_id for row in settlements],
        "epochs": [row.epoch for row in settlements],
        "statuses": [row.status.value for row in settlements],
        "outputs": [row.output for row in settlements],
        "errors": [row.error for row in settlements],
        "error_codes": [row.error_code for row in settlements],
        "outcomes": [row.outcome for row in settlements],
        "reasons": [row.reason for row in settlements],
        "delays": [row.delay_s for row in settlements],
        "charges": [row.charge for row in settlements],
        "batch_sizes": [row.batch_size for row in settlements],
        "units": [row.units for row in settlements],
        "runs": [row.run_s for row in settlements],
        "device_ss": [row.device_s for row in settlements],
        "worker_id": worker.id,
        "pool": worker.pool,
        "purchase": worker.purchase,
        "device": worker.device,
    }
    statement = _SETTLE_PLAIN
    if any(row.file for row in settlements):
        statement = _SETTLE_WITH_FILES
        parameters |= _files(settlements)
    settled = rows(engine, statement, parameters)
    return [SettledJob(row.job_id, JobStatus(row.status), row.told) for row in settled]


def _files(rows: Sequence[Settlement]) -> dict[str, Any]:
    stored = [(row.job_id, row.file) for row in rows if row.file is not None]
    return {
        "file_jobs": [job_id for job_id, _ in stored],
        "file_ids": [file.id for _, file in stored],
        "file_tenants": [file.tenant_id for _, file in stored],
        "file_keys": [object_key(file.tenant_id, file.id) for _, file in stored],
        "file_names": [output_name(job_id) for job_id, _ in stored],
        "file_sizes": [file.size for _, file in stored],
        "file_sha256s": [file.sha256 for _, file in stored],
        "file_keeps": [file.keep_s for _, file in stored],
    }
