"""Holding a request until its job has ended, or all of its jobs."""

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from app.broker.wakeups import TooManyWaiters, Waiter, Wakeups
from app.domain.states import TERMINAL
from app.observability import metrics


@contextmanager
def watching(wakeups: Wakeups, job_id: UUID) -> Iterator[Waiter | None]:
    """A waiter that hears news of the job from now on; None if this process holds too many requests.

    Enter before the job is written, or before it is read: then no news is missed.
    """
    try:
        watch = wakeups.watch(job_id)
        waiter = watch.__enter__()
    except TooManyWaiters:
        yield None
        return
    try:
        with metrics.HTTP_WAITING.track_inprogress():
            yield waiter
    finally:
        watch.__exit__(None, None, None)


def until_finished(
    read: Callable[[], Any],
    waiter: Waiter,
    wakeups: Wakeups,
    timeout_s: float,
    *,
    look_first: bool = True,
    clock: Callable[[], float] = time.monotonic,
) -> Any:
    """The job's row, as `read` gives it, once it ended or `timeout_s` passed.

    `look_first` may be false for a job that was written while `waiter` listened: there is news to wait for.
    """
    deadline = clock() + timeout_s
    if not look_first:
        waiter.wait(timeout_s)
    while (row := read()).status not in TERMINAL:
        left = deadline - clock()
        if left <= 0 or wakeups.closing:
            break
        waiter.wait(left)
    return row


def as_they_end(
    read: Callable[[Collection[UUID]], Collection[Any]],
    job_ids: Collection[UUID],
    waiter: Waiter,
    wakeups: Wakeups,
    timeout_s: float,
    *,
    unwanted: Callable[[], bool],
    clock: Callable[[], float] = time.monotonic,
) -> Iterator[Any]:
    """The rows of these jobs as they end, as `read` gives them, until all did or `timeout_s` passed.

    A wake-up costs one read, of the jobs it names. Silence costs one too, of all that are left: a wake-up
    may be lost. Over, too, once `unwanted`. `waiter` listened before the jobs were written.
    """
    deadline = clock() + timeout_s
    left = set(job_ids)
    while left and not wakeups.closing and not unwanted() and (patience := deadline - clock()) > 0:
        heard = waiter.wait(patience)
        asked = waiter.news() & left if heard else left
        for row in read(asked) if asked else ():
            left.discard(row.job_id)
            yield row
