"""What a child holds leases on: jobs it has not started, and the micro-batch that runs.

Only efficiency depends on it: whoever gets something wrong here settles with an epoch that is stale, and so
writes nothing.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from uuid import UUID

from app.domain.stages import ClaimedJob, Doorbell, MicroBatch


class Held:
    """Written by the thread that drains the queue, taken from by the one that ends the child."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._unstarted: dict[UUID, tuple[ClaimedJob, Doorbell]] = {}
        self._taken: set[UUID] = set()
        self._runs = False
        self._ends: float | None = None
        self.bell: Doorbell | None = None
        """What calls others to the jobs that were claimed last."""

    def claimed(self, bell: Doorbell, jobs: Iterable[ClaimedJob]) -> None:
        """These are leased now. `bell` is what calls others to them."""
        with self._lock:
            self.bell = bell
            self._unstarted |= {job.id: (job, bell) for job in jobs}

    def start(self, planned: MicroBatch, expected_s: float | None) -> MicroBatch | None:
        """The micro-batch, about to run for `expected_s` seconds (None: not known), less what was taken."""
        with self._lock:
            for prepared in planned.jobs:
                self._unstarted.pop(prepared.job.id, None)
            jobs = planned.jobs
            if self._taken:
                jobs = tuple(prepared for prepared in jobs if prepared.job.id not in self._taken)
            self._runs = bool(jobs)
            self._ends = None if expected_s is None else self._clock() + expected_s
        if len(jobs) == len(planned.jobs):
            return planned
        return MicroBatch(jobs) if jobs else None

    def done(self) -> None:
        """The micro-batch has run."""
        with self._lock:
            self._runs = False

    def forget(self, jobs: Iterable[ClaimedJob]) -> None:
        """These are being settled without having been started."""
        with self._lock:
            for job in jobs:
                self._unstarted.pop(job.id, None)

    def clear(self) -> None:
        """Nothing is held any more."""
        with self._lock:
            self._unstarted.clear()
            self._taken.clear()
            self._runs = False

    def take_unstarted(self) -> Sequence[tuple[ClaimedJob, Doorbell]]:
        """What has not been started, and never will be: it is the caller's to give back."""
        with self._lock:
            taken = list(self._unstarted.values())
            self._taken |= self._unstarted.keys()
            self._unstarted.clear()
        return taken

    def running(self) -> tuple[bool, float | None]:
        """Whether a micro-batch runs, and in how many seconds it is predicted to end (None: not known, or
        that moment is over).
        """
        with self._lock:
            left_s = None if self._ends is None else self._ends - self._clock()
            return self._runs, left_s if left_s is not None and left_s > 0 else None
