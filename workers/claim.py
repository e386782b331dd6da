"""claim: a doorbell becomes `ClaimedJob`s, each under a lease with a fencing epoch."""

import time
from collections.abc import Sequence

from app.db import claim as sql
from app.db.claim import Claimed
from app.db.engine import Engine
from app.domain.ids import made_at
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from app.domain.stages import ClaimedJob, WorkerIdentity
from app.domain.window import Window
from app.observability import logs, metrics

log = logs.get_logger()


def claim(
    engine: Engine,
    worker: WorkerIdentity,
    version: ModelVersion,
    lane: Lane,
    window: Window,
    *,
    in_hand: bool = True,
) -> Claimed:
    """Lease a window of ready jobs of this version and lane, most urgent first.

    From here until settle the worker's row names them as in hand: if this process dies, they are the
    suspects. Preparing them may take as long as running one batch. Not so if they are claimed ahead
    (`in_hand` is false): then they are to be marked before they are touched.
    """
    started = time.perf_counter()
    claimed = sql.claim(
        engine,
        worker.id,
        version.id,
        lane,
        window.most,
        version.spec.execution_timeout_s,
        least=window.least,
        sharers=window.sharers,
        in_hand=in_hand,
    )
    metrics.CLAIM_SECONDS.observe(time.perf_counter() - started)
    if jobs := claimed.jobs:
        _observe_waits(jobs, lane)
        metrics.CLAIM_JOBS.labels(version.spec.name).inc(len(jobs))
        logs.of_jobs(
            log,
            "claim.jobs",
            [job.id for job in jobs],
            model=version.spec.name,
            lane=lane.label,
            more=claimed.more,
            epoch=jobs[0].epoch,
        )
    return claimed


def _observe_waits(jobs: Sequence[ClaimedJob], lane: Lane) -> None:
    now, waits = time.time(), metrics.CLAIM_WAIT_SECONDS.labels(lane.label)
    for job in jobs:
        if not job.attempt:
            waits.observe(max(0.0, now - made_at(job.id)))
