"""Time and chance, in one place, so that tests can stop the one and fix the other."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from headrace.arguments import seconds


@dataclass(frozen=True)
class Clock:
    """Where the client takes its time from. `now` is monotonic; `chance` is uniform in [0, 1)."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class Deadline:
    """How much is left of a timeout that began when this was made. `None` never ends."""

    def __init__(self, clock: Clock, timeout: float | None) -> None:
        self.timeout = seconds(timeout, "timeout")
        self._clock = clock
        self._end = None if timeout is None else clock.now() + timeout

    def left(self) -> float:
        """Seconds left, infinite without a timeout, never negative."""
        return float("inf") if self._end is None else max(0.0, self._end - self._clock.now())


def rfc3339(moment: datetime | str | None) -> str | None:
    """A moment as the API takes it. Text stays as it is: the server checks it."""
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return moment
