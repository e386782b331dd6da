"""What a long prediction may use while it runs: report progress, see a cancel. Cheap to call often."""

import time
from collections.abc import Callable
from uuid import UUID

from app.db import cancel, progress
from app.db.engine import Engine
from app.domain.stages import PreparedJob
from app.errors import Unavailable
from workers.notify import Notifier

REPORT_S = 1.0
ASK_S = 0.5


class BatchContext:
    """See `Context`. Talks to Postgres at most once a second per item, and never fails a prediction."""

    def __init__(
        self,
        engine: Engine,
        notifier: Notifier,
        worker_id: UUID,
        jobs: tuple[PreparedJob, ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._notifier = notifier
        self._worker_id = worker_id
        self._jobs = jobs
        self._clock = clock
        # A prediction that ends within the first interval costs nothing here.
        self._reported: dict[int, float] = dict.fromkeys(range(len(jobs)), clock())
        self._asked: frozenset[UUID] = frozenset()
        self._asked_at = clock()

    def progress(self, index: int, fraction: float, message: str | None = None) -> None:
        now = self._clock()
        if now - self._reported[index] < REPORT_S:
            return
        self._reported[index] = now
        job = self._jobs[index].job
        text = message[:500].replace("\x00", "").encode("utf-8", "replace").decode() if message else None
        try:
            progress.report(self._engine, job.id, job.epoch, min(max(fraction, 0.0), 1.0), text)
        except Unavailable:
            return
        self._notifier.changed([job.id])

    def canceled(self, index: int) -> bool:
        now = self._clock()
        if now - self._asked_at >= ASK_S:
            self._asked_at = now
            try:
                self._asked = cancel.asked(self._engine, self._worker_id)
            except Unavailable:
                return False
        return self._jobs[index].job.id in self._asked
