"""claim: a doorbell becomes `ClaimedJob`s, each under a lease with a fencing epoch."""

import time

from app.db import claim as sql
from app.db.engine import Engine
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from app.domain.stages import ClaimedJob, WorkerIdentity
from app.observability import logs, metrics

log = logs.get_logger()

WINDOWS = 2
"""Batches' worth of jobs in one window: enough to sort by size, few enough to leave for other children."""


def window_size(max_items: int) -> int:
    """How many jobs one claim may take."""
    return WINDOWS * max_items


def claim(
    engine: Engine, worker: WorkerIdentity, version: ModelVersion, lane: Lane, window: int
) -> list[ClaimedJob]:
    """Lease up to `window` ready jobs of this version and lane, most urgent first.

    From here until settle the worker's row names them as in hand: if this process dies, they are the
    suspects. Preparing them may take as long as running one batch.
    """
    started = time.perf_counter()
    jobs = sql.claim(engine, worker.id, version.id, lane, window, version.spec.execution_timeout_s)
    metrics.CLAIM_SECONDS.observe(time.perf_counter() - started)
    if jobs:
        metrics.CLAIM_JOBS.labels(version.spec.name).inc(len(jobs))
        log.info("claim.jobs", model=version.spec.name, lane=lane.label, jobs=len(jobs), epoch=jobs[0].epoch)
    return jobs
