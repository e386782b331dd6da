"""Back-pressure: how many seconds of work wait, at the speed it is done; over a limit, more is refused.

The speed is what workers measured of each version, times the children that listen. For a version that never
ran, results of lately are counted. While nothing is done, the oldest waiting job tells for how long work has
to wait at least. Batches are refused from half of the limit on, so that the interactive lane is the last to
close.

What waits is counted beside the requests, and Postgres never counts for more than a twentieth of the time.
What this process let in since is added, so a burst is not let in whole before it is noticed.
"""

import contextlib
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator

from app.db import pressure as sql
from app.db.engine import Engine
from app.domain.lanes import Device, Lane
from app.domain.pressure import Load
from app.errors import Overloaded, Unavailable
from app.intake.counts import beside, rest_s

MEASURE_EVERY_S = 0.25
_OLD_S = 5.0
"""A count that is older says nothing about now: the next request waits for a new one."""
_WINDOW_S = 15.0
"""Over which results are counted."""
_STALLED_S = 5.0
"""Without a result, nothing is done: Postgres counts a second late."""
_LONGEST_WAIT_S = 300.0


class Pressure:
    """Refuses what would wait too long. One per process; safe to share among threads."""

    def __init__(
        self,
        engine: Engine,
        most_s: float,
        clock: Callable[[], float],
        beside: Callable[[Callable[[], None]], None] = beside,
    ) -> None:
        self._engine = engine
        self._most_s = most_s
        self._clock = clock
        self._beside = beside
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, sql.Work]] = deque()
        self._since: Counter[Device] = Counter()
        """Interactive jobs that were let in since the last count."""
        self._measuring = False
        self._due_at = float("-inf")

    def admit(self, lane: Lane, device: Device | None = None, jobs: int = 1) -> None:
        """Let these jobs in, for this device or, if None, for any. Raises `Overloaded` if more work than the
        limit waits before them.
        """
        if not self._most_s:
            return
        self._look()
        most_s = self._most_s if lane is Lane.INTERACTIVE else self._most_s / 2
        with self._lock:
            waits_s = max(self._forecasts(lane, device), default=0.0)
            if waits_s <= most_s:
                if device is not None:
                    self._since[device] += jobs
                return
        raise Overloaded(
            "overloaded",
            f"about {waits_s:.0f} seconds of work wait already",
            min(waits_s - most_s, _LONGEST_WAIT_S),
        )

    def _look(self) -> None:
        now = self._clock()
        with self._lock:
            if self._measuring or now < self._due_at:
                return
            self._measuring = True
            known = bool(self._seen) and now - self._seen[-1][0] < _OLD_S
        if known:
            self._beside(self._measure_again)
        else:
            self._measure()

    def _measure_again(self) -> None:
        # Once what is known is old, whoever asks waits for an answer, or is told.
        with contextlib.suppress(Unavailable):
            self._measure()

    def _measure(self) -> None:
        began, took_s = self._clock(), 0.0
        with self._lock:
            counted = Counter(self._since)
        try:
            work = sql.work(self._engine)
            took_s = work.took_s
            with self._lock:
                while self._seen and began - self._seen[0][0] > _WINDOW_S:
                    self._seen.popleft()
                self._seen.append((began, work))
                self._since -= counted
        finally:
            self._due_at = self._clock() + rest_s(took_s, MEASURE_EVERY_S)
            self._measuring = False

    def _forecasts(self, lane: Lane, device: Device | None) -> Iterator[float]:
        """Seconds until a new job's turn comes on this device, or on each."""
        if not self._seen:
            return
        (then, before), (now, last) = self._seen[0], self._seen[-1]
        done = last.results - before.results
        for of, load in last.loads.items():
            if device in (None, of):
                waits_s = load.seconds(lane, self._since[of])
                if waits_s is None:
                    waits_s = self._by_results(last, lane, done / (now - then) if now > then else 0.0, load)
                stalled = done <= 0 and now - then >= _STALLED_S
                yield max(waits_s, load.oldest_s) if stalled and load.jobs(lane) else waits_s

    @staticmethod
    def _by_results(last: sql.Work, lane: Lane, rate: float, load: Load) -> float:
        if rate <= 0:
            return load.oldest_s
        return sum(each.jobs(lane) for each in last.loads.values()) / rate
