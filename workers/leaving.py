"""How a child leaves: what it has not started goes back at once, what runs may end if there is time for it.

A thread of its own does this (`workers/heartbeat.py`), since the one that works may be in a forward pass that
nobody can interrupt. Giving back is settling: by epoch, so that whatever the other thread still settles of
these jobs writes nothing.
"""

import os
from collections.abc import Callable, Iterable, Sequence

from app.db import workers
from app.domain.draining import GOODBYE_S, fits
from app.domain.stages import ClaimedJob, Doorbell, Outcome, Released
from app.domain.states import Reason
from app.errors import Unavailable
from app.observability import logs, metrics
from workers.child import Child
from workers.settle import settle

log = logs.get_logger()

BEHIND_S = 1.0
"""How long results that are being written are waited for, before the rest is given back."""
TOO_LATE_S = 0.3
"""With less left, nothing more is tried."""


class Leaving:
    """One child's leaving. `end` ends the process: it is called when what runs has been abandoned."""

    def __init__(self, child: Child, end: Callable[[], object] | None = None) -> None:
        self._child = child
        self._end = end or _end
        self._owed: list[tuple[ClaimedJob, Doorbell]] = []
        self._abandons = False

    def step(self) -> None:
        """Do what there is to do by now; to be repeated until the child has left. Raises `Unavailable`."""
        child = self._child
        self._owed += child.held.take_unstarted()
        if self._owed:
            self._give_back([job for job, _ in self._owed], {bell for _, bell in self._owed}, "unstarted")
            self._owed.clear()
        child.tell_draining()
        left_s = child.time_left_s()
        runs, expected_s = child.held.running()
        if not child.is_busy():
            return
        time_is_up = left_s is not None and left_s <= GOODBYE_S
        self._abandons |= time_is_up or (runs and not fits(expected_s, left_s))
        if self._abandons:
            self._abandon(left_s or 0.0)

    def _abandon(self, left_s: float) -> None:
        """Give back all that is still leased, and end this process in the middle of its work."""
        child = self._child
        try:
            child.behind.wait(min(BEHIND_S, left_s / 2))
            leases = workers.leases(child.engine, child.identity.id)
            self._give_back(leases, [child.held.bell] if child.held.bell else [], "abandoned")
            child.leave()
        except Unavailable:
            if left_s > TOO_LATE_S:
                raise
        log.warning("drain.abandoned", cause=child.drain_cause(), left_s=round(left_s, 1))
        metrics.forget_process(os.getpid())
        self._end()

    def _give_back(self, jobs: Sequence[ClaimedJob], bells: Iterable[Doorbell], kind: str) -> None:
        child = self._child
        released = settle(
            child.engine, child.identity, [Outcome(job, Released(Reason.PREEMPTED)) for job in jobs]
        )
        for bell in bells:
            child.ringer.ring(bell)
        child.notifier.settled(released)
        metrics.DRAIN_RELEASED_JOBS.labels(kind).inc(len(released))
        if released:
            log.info("drain.released", jobs=len(released), kind=kind, cause=child.drain_cause())


def _end() -> None:
    os._exit(0)
