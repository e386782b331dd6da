"""Queue: claim and settle straight on Postgres, with a short and with a long backlog."""

import statistics
import time
from dataclasses import replace

from pydantic import SecretStr
from sqlalchemy import text

from app.db import claim, models, settle, workers
from app.db.engine import Engine, connect, make_engine
from app.db.settle import Settlement
from app.domain.ids import new_uuid
from app.domain.lanes import Device, Lane
from app.domain.model import ModelVersion
from app.domain.stages import WorkerIdentity
from app.domain.states import JobStatus
from app.domain.window import MOST
from benchmarks.figures import Figure, Measured, percentile
from benchmarks.stack import Stack

BATCH = 64

_FILL = text(
    """
    WITH made AS (
        INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
                          execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms)
        SELECT uuidv7(), 0, :version_id, 0, 1, '{"n": 1}', sha256(int8send(n)), now() + interval '1 hour',
               60, 1, 1, 1
          FROM generate_series(1, :count) AS n
        RETURNING id, version_id, lane, priority, expires_at
    )
    INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at)
    SELECT id, version_id, lane, priority,
           CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint) + row_number() OVER (), expires_at
      FROM made
    """
)
_CLEAR = text("DELETE FROM job_ready WHERE version_id = :version_id")


def run(stack: Stack, *, short: int = 1_000, long: int = 50_000, rounds: int = 10) -> Measured:
    """Jobs per second through claim and settle by one connection, and how a long backlog changes it.

    A round works off `short` jobs with nothing else waiting, then as many with `long` others behind them. The
    ratio is the median of the rounds'.
    """
    engine = make_engine(SecretStr(stack.database_url), lookups_only=True, statement_timeout_s=600)
    alone_version, crowded_version = own_version(engine, "short"), own_version(engine, "long")
    fill(engine, crowded_version, long)
    alone, crowded, claims, large = [], [], [], []
    for _ in range(rounds):
        fill(engine, alone_version, short)
        alone.append(_work_off(engine, alone_version, short)[0])
        rate, took = _work_off(engine, crowded_version, short)
        crowded.append(rate)
        claims += took
        large += _work_off(engine, crowded_version, 4 * MOST, MOST)[1]
        fill(engine, crowded_version, short + 4 * MOST)
    with connect(engine) as connection:
        connection.execute(_CLEAR, {"version_id": crowded_version.id})
    engine.dispose()
    ratio = statistics.median(c / a for a, c in zip(alone, crowded, strict=True))
    name = f"claim + settle in {BATCH}s"
    return [
        Figure("queue", f"{name}, {short:,} waiting", statistics.median(alone), "jobs/s"),
        Figure("queue", f"{name}, {long:,} waiting", statistics.median(crowded), "jobs/s", ratio),
        Figure("queue", f"one claim, {long:,} waiting, p99", percentile(claims, 0.99), "ms"),
        Figure("queue", f"a claim of {MOST}, p50", percentile(large, 0.5), "ms"),
        Figure("queue", f"a claim of {MOST}, p99", percentile(large, 0.99), "ms"),
    ]


def own_version(engine: Engine, name: str) -> ModelVersion:
    """A version of `echo` for a device that no worker of the stack has, so that only we claim its jobs."""
    echo = models.find(engine, "echo", None)
    assert echo is not None
    spec = replace(echo.spec, name=f"benchmark-{name}", version=new_uuid().hex[-8:], device=Device.REMOTE)
    models.register(engine, spec, actor="benchmark")
    version = models.find(engine, spec.name, spec.version)
    assert version is not None
    return version


def fill(engine: Engine, version: ModelVersion, count: int) -> None:
    """Put as many jobs into the queue, behind those that are there."""
    with connect(engine) as connection:
        connection.execute(_FILL, {"version_id": version.id, "count": count})


def _work_off(
    engine: Engine, version: ModelVersion, count: int, size: int = BATCH
) -> tuple[float, list[float]]:
    """Jobs per second, and the milliseconds that each claim took."""
    worker = WorkerIdentity(new_uuid(), "benchmark", "nowhere", 0, "default", "on_demand", "cpu", ("none",))
    workers.register(engine, worker)
    claims: list[float] = []
    done, started = 0, time.perf_counter()
    while done < count:
        began = time.perf_counter()
        jobs = claim.claim(engine, worker.id, version.id, Lane.INTERACTIVE, size, 60.0).jobs
        claims.append((time.perf_counter() - began) * 1000)
        if not jobs:
            raise RuntimeError(f"the queue was empty after {done} of {count} jobs")
        rows = [
            Settlement(job.id, job.epoch, JobStatus.SUCCEEDED, "succeeded", 1, output="{}") for job in jobs
        ]
        settle.settle(engine, worker, rows)
        done += len(jobs)
    elapsed = time.perf_counter() - started
    workers.stop(engine, worker.id)
    return done / elapsed, claims
