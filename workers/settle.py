"""settle: `Outcome`s become results, retries and attempts, in one transaction, fenced by epoch."""

import random
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import orjson

from app.db import settle as sql
from app.db.engine import Engine
from app.db.settle import Settlement
from app.domain.stages import Canceled, Failed, Outcome, Released, SettledJob, Succeeded, WorkerIdentity
from app.domain.states import AttemptOutcome, JobStatus, Reason
from app.observability import logs, metrics

log = logs.get_logger()


def settle(
    engine: Engine,
    worker: WorkerIdentity,
    outcomes: Sequence[Outcome],
    jitter: Callable[[], float] = random.random,
) -> list[SettledJob]:
    """Write how these jobs ended. A job whose lease was lost meanwhile is not written and not returned."""
    if not outcomes:
        return []
    started = time.perf_counter()
    settled = sql.settle(engine, worker, [_settlement(outcome, jitter) for outcome in outcomes])
    seconds = time.perf_counter() - started
    became: dict[str, list[UUID]] = {}
    for job in settled:
        became.setdefault(job.status.value, []).append(job.id)
    stale = len(outcomes) - len(settled)
    metrics.SETTLE_SECONDS.observe(seconds)
    metrics.SETTLE_STALE.inc(stale)
    for status, ids in became.items():
        metrics.SETTLE_JOBS.labels(status).inc(len(ids))
        epoch = min(outcome.job.epoch for outcome in outcomes)
        logs.of_jobs(log, "settle.jobs", ids, status=status, epoch=epoch, seconds=round(seconds, 6))
    if stale:
        log.warning("settle.stale", jobs=stale)
    return settled


def _settlement(outcome: Outcome, jitter: Callable[[], float]) -> Settlement:
    job, verdict = outcome.job, outcome.verdict
    status, kind, charge = JobStatus.QUEUED, AttemptOutcome.RELEASED, 0
    output = error = code = reason = file = None
    delay_s = 0.0
    match verdict:
        case Succeeded():
            status, kind, charge = JobStatus.SUCCEEDED, AttemptOutcome.SUCCEEDED, 1
            output, file = verdict.output.decode(), verdict.file
        case Canceled():
            status, kind = JobStatus.CANCELED, AttemptOutcome.CANCELED
        case Released():
            reason, delay_s = verdict.reason, verdict.delay_s
        case Failed():
            kind, charge, code = AttemptOutcome.ERROR, 1, verdict.code
            attempt = job.attempt + 1
            if job.retry.again(attempt, verdict.retryable):
                delay_s, reason = job.retry.delay_s(attempt, jitter()), Reason.RETRY_BACKOFF.value
            else:
                status = JobStatus.FAILED
                # Lone surrogates in a model's message can't be stored as text.
                message = verdict.message.encode("utf-8", "replace").decode()
                error = orjson.dumps({"code": verdict.code, "message": message}).decode()
    return Settlement(
        job_id=job.id,
        epoch=job.epoch,
        status=status,
        outcome=kind.value,
        charge=charge,
        output=output,
        error=error,
        error_code=code,
        reason=reason,
        delay_s=delay_s,
        batch_size=outcome.batch_size or None,
        units=outcome.units or None,
        run_s=outcome.run_s,
        device_s=outcome.device_s,
        file=file,
    )
