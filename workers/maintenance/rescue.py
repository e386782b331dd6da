"""rescue: find dead workers, and bring what they held back to the queue."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from app.db import batch_work, deliveries
from app.db import rescue as sql
from app.db.engine import Engine
from app.domain.states import JobStatus
from app.observability import logs, metrics
from workers.notify import Notifier

log = logs.get_logger()

DEADLINE_GRACE_S = 10.0
"""A child's own watchdog ends it at its batch's deadline; only one that could not is found here."""

DEAF_S = DEADLINE_GRACE_S
"""Who could not look for this long can't tell the dead from those who could not speak or settle either."""


@dataclass
class Rescue:
    """Declares dead whoever is silent or stuck, then takes their leases."""

    engine: Engine
    notifier: Notifier
    lease_ttl_s: float
    max_crashes: int
    clock: Callable[[], float] = time.monotonic
    _looked_at: float = -math.inf
    _listens_until: float | None = None

    def run_once(self) -> int:
        """Returns how many jobs were taken from dead workers."""
        self._bury()
        taken = 0
        for worker_id in sql.orphaned_workers(self.engine):
            jobs = sql.rescue(self.engine, worker_id, self.max_crashes)
            taken += len(jobs)
            for job in jobs:
                metrics.RESCUE_JOBS.labels(job.outcome).inc()
            ended = [job.id for job in jobs if job.status is not JobStatus.QUEUED]
            self.notifier.changed(ended)
            for outcome in sorted({job.outcome for job in jobs}):
                ids = [job.id for job in jobs if job.outcome == outcome]
                logs.of_jobs(log, "rescue.jobs", ids, worker_id=str(worker_id), outcome=outcome)
        for worker_id in deliveries.orphaned_workers(self.engine):
            if lost := deliveries.rescue(self.engine, worker_id):
                metrics.RESCUE_DELIVERIES.inc(lost)
                log.warning("rescue.deliveries", worker_id=str(worker_id), deliveries=lost)
        for batch_id in batch_work.rescue(self.engine):
            metrics.RESCUE_BATCHES.inc()
            log.warning("rescue.batch", batch=str(batch_id))
        self._looked_at = self.clock()
        return taken

    def _bury(self) -> None:
        """Not at once after an outage of Postgres or of this process: whoever lives speaks within seconds."""
        now = self.clock()
        # Rounds that are slow must not put it off again and again.
        if now - self._looked_at > (DEAF_S if self._listens_until is None else self.lease_ttl_s):
            self._listens_until = now + self.lease_ttl_s / 3
        if self._listens_until is not None and now < self._listens_until:
            return
        self._listens_until = None
        for worker in sql.bury(self.engine, self.lease_ttl_s, DEADLINE_GRACE_S):
            metrics.RESCUE_WORKERS.labels(worker.cause).inc()
            log.warning("rescue.worker_dead", worker=worker.name, cause=worker.cause)
