"""How many deliveries a receiver gets at a time: more while it answers, few while it fails, none when dead.

One table for everything that could let one receiver take the others' place: it bounds each receiver's
concurrency, and it is the circuit breaker. Learned anew by each sender process.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

START = 8
"""Room of a receiver nothing is known of. Each answer adds one, as in TCP's slow start."""

BREAK_AFTER = 5
"""Failures in a row after which a receiver is left alone for a while, then probed with one delivery."""

PAUSE_S = 1.0
MAX_PAUSE_S = 60.0
"""The pause doubles with each failed probe up to this. What waits meanwhile loses no try."""

FORGET_AFTER_S = 5 * MAX_PAUSE_S


@dataclass(slots=True)
class _Receiver:
    limit: int = START
    under_way: int = 0
    failures: int = 0
    pause_s: float = PAUSE_S
    ended_at: float = 0.0
    closed_until: float = 0.0


class Receivers:
    """Room per target. Not thread-safe: it lives in the sender's event loop."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._known: dict[str, _Receiver] = {}
        self.default_room = min(START, most)

    def rooms(self) -> dict[str, int]:
        """How many more may be sent to each target for which that is not `default_room`."""
        now = self._clock()
        return {target: self._room(receiver, now) for target, receiver in self._known.items()}

    def full(self, target: str) -> bool:
        """Whether it has all it may have at a time, so that more may wait for it."""
        known = self._known[target]
        return known.under_way >= known.limit

    def began(self, target: str) -> None:
        """A delivery to it is under way."""
        known = self._known.setdefault(target, _Receiver(self.default_room))
        known.under_way += 1

    def answered(self, target: str) -> None:
        """It answered, whatever it said: it is alive."""
        known = self._known[target]
        known.under_way -= 1
        known.limit = min(known.limit + 1, self._most)
        known.failures, known.pause_s = 0, PAUSE_S
        known.ended_at = self._clock()

    def failed(self, target: str) -> None:
        """It did not answer, or only that it can't."""
        known = self._known[target]
        known.under_way -= 1
        known.limit = max(1, known.limit // 2)
        known.failures += 1
        known.ended_at = self._clock()
        if known.failures >= BREAK_AFTER:
            known.closed_until = known.ended_at + known.pause_s
            known.pause_s = min(known.pause_s * 2, MAX_PAUSE_S)

    def gave_back(self, target: str) -> None:
        """The delivery was cut off: nothing is known of the receiver."""
        self._known[target].under_way -= 1

    def forget_idle(self) -> None:
        """Drop what was sent nothing for long. This keeps the table as small as what is going on."""
        horizon = self._clock() - FORGET_AFTER_S
        idle = [
            target
            for target, known in self._known.items()
            if not known.under_way and known.ended_at < horizon
        ]
        for target in idle:
            del self._known[target]

    def _room(self, known: _Receiver, now: float) -> int:
        if known.failures < BREAK_AFTER:
            return max(0, known.limit - known.under_way)
        return 0 if now < known.closed_until or known.under_way else 1
