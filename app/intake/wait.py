"""Holding a request until its job has ended."""

import time
from collections.abc import Callable
from uuid import UUID

from app.broker.wakeups import TooManyWaiters, Wakeups
from app.db import jobs
from app.db.engine import Engine
from app.observability import metrics


def until_finished(
    engine: Engine,
    wakeups: Wakeups,
    job_id: UUID,
    timeout_s: float,
    clock: Callable[[], float] = time.monotonic,
) -> bool | None:
    """Whether the job ended within `timeout_s`; None, at once, if this process holds too many requests."""
    deadline = clock() + timeout_s
    try:
        with wakeups.watch(job_id) as waiter, metrics.HTTP_WAITING.track_inprogress():
            while jobs.finished(engine, job_id) is None:
                left = deadline - clock()
                if left <= 0 or wakeups.closing:
                    return False
                waiter.wait(left)
            return True
    except TooManyWaiters:
        return None
