"""Back-pressure: how many seconds of work wait, at the speed it is done; over a limit, more is refused.

The speed is that of lately: results written, over seconds. Where nothing is known of it, or nothing is done,
the oldest waiting job tells for how long work has to wait at least. Batches are refused from half of the
limit on, so that the interactive lane is the last to close.
"""

import threading
from collections import deque
from collections.abc import Callable

from app.db import quotas as sql
from app.db.engine import Engine
from app.domain.lanes import Lane
from app.errors import Overloaded

MEASURE_EVERY_S = 1.0
_WINDOW = 15
"""Measurements that the speed is taken over."""
_LONGEST_WAIT_S = 300.0


class Pressure:
    """Refuses what would wait too long. One per process; safe to share among threads."""

    def __init__(self, engine: Engine, most_s: float, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._most_s = most_s
        self._clock = clock
        self._lock = threading.Lock()
        self._seen: deque[tuple[float, sql.Work]] = deque(maxlen=_WINDOW)

    def admit(self, lane: Lane) -> None:
        """Raises `Overloaded` if more work than the limit waits before what this lane would get."""
        if not self._most_s:
            return
        with self._lock:
            if not self._seen or self._clock() - self._seen[-1][0] >= MEASURE_EVERY_S:
                self._measure()
            waits_s = self._forecast_s(lane)
        most_s = self._most_s if lane is Lane.INTERACTIVE else self._most_s / 2
        if waits_s > most_s:
            raise Overloaded(
                "overloaded",
                f"about {waits_s:.0f} seconds of work wait already",
                min(waits_s - most_s, _LONGEST_WAIT_S),
            )

    def _measure(self) -> None:
        now = self._clock()
        while self._seen and now - self._seen[0][0] > 2 * _WINDOW * MEASURE_EVERY_S:
            self._seen.popleft()
        self._seen.append((now, sql.work(self._engine)))

    def _forecast_s(self, lane: Lane) -> float:
        (then, before), (now, last) = self._seen[0], self._seen[-1]
        waiting = last.interactive if lane is Lane.INTERACTIVE else last.jobs
        done = last.results - before.results
        if not waiting:
            return 0.0
        if done <= 0 or now <= then:
            return last.oldest_s
        return waiting * (now - then) / done
