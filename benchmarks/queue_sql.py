"""Queue: claim and settle straight on Postgres, with a short and with a long backlog."""

import time
from dataclasses import replace

from pydantic import SecretStr
from sqlalchemy import text

from app.db import claim, models, settle, workers
from app.db.engine import Engine, connect, make_engine
from app.db.settle import Settlement
from app.domain.ids import new_uuid
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from app.domain.stages import WorkerIdentity
from app.domain.states import JobStatus
from benchmarks.figures import Figure, Measured
from benchmarks.stack import Stack

BATCH = 64

_FILL = text(
    """
    WITH made AS (
        INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
                          execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms)
        SELECT uuidv7(), 0, :version_id, 0, 1, '{}', '', now() + interval '1 hour', 60, 1, 1, 1
          FROM generate_series(1, :count)
        RETURNING id, version_id, lane, priority, expires_at
    )
    INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at)
    SELECT id, version_id, lane, priority, row_number() OVER (), expires_at FROM made
    """
)


def run(stack: Stack, *, short: int = 2_000, long: int = 50_000) -> Measured:
    """Jobs per second through claim and settle by one connection, and how a long backlog changes it."""
    engine = make_engine(SecretStr(stack.database_url), lookups_only=True)
    version = _own_version(engine)
    alone = _work_off(engine, version, _fill(engine, version, short))
    _fill(engine, version, long)
    crowded = _work_off(engine, version, short)
    engine.dispose()
    return [
        Figure("queue", f"claim + settle in {BATCH}s, {short:,} waiting", alone, "jobs/s"),
        Figure("queue", f"claim + settle in {BATCH}s, {long:,} waiting", crowded, "jobs/s", crowded / alone),
    ]


def _own_version(engine: Engine) -> ModelVersion:
    """A version that no worker is told about, so that only we claim its jobs."""
    echo = models.find(engine, "echo", None)
    assert echo is not None
    spec = replace(echo.spec, name="benchmark-queue", version=new_uuid().hex[:8])
    models.register(engine, spec)
    version = models.find(engine, spec.name, spec.version)
    assert version is not None
    return version


def _fill(engine: Engine, version: ModelVersion, count: int) -> int:
    with connect(engine) as connection:
        connection.execute(_FILL, {"version_id": version.id, "count": count})
    return count


def _work_off(engine: Engine, version: ModelVersion, count: int) -> float:
    worker = WorkerIdentity(new_uuid(), "benchmark", "nowhere", 0, "default", "on_demand", "cpu", ("none",))
    workers.register(engine, worker)
    done, started = 0, time.perf_counter()
    while done < count:
        jobs = claim.claim(engine, worker.id, version.id, Lane.INTERACTIVE, BATCH, 60.0).jobs
        if not jobs:
            raise RuntimeError(f"the queue was empty after {done} of {count} jobs")
        rows = [
            Settlement(job.id, job.epoch, JobStatus.SUCCEEDED, "succeeded", 1, output="{}") for job in jobs
        ]
        settle.settle(engine, worker, rows)
        done += len(jobs)
    elapsed = time.perf_counter() - started
    workers.stop(engine, worker.id)
    return done / elapsed
