"""How long this process may still count on what it leased, by its own monotonic clock.

Postgres's clock decides when a lease is over. This one needs no Postgres: it starts when a sign of life is
sent, which is before Postgres writes it down, and ends a little sooner, so it is never the later of the two.
"""

import time
from collections.abc import Callable

SAFETY = 0.9
"""The share of a lease's life that is used."""


class Lease:
    """One per process. Not over before the first sign of life: nothing is leased before it."""

    def __init__(self, ttl_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._life_s = ttl_s * SAFETY
        self._clock = clock
        self._until: float | None = None
        self.renewed: Callable[[], None] = lambda: None
        """Called after each renewal."""

    def now(self) -> float:
        """To be asked before a sign of life is sent, for `renew`."""
        return self._clock()

    def renew(self, sent_at: float) -> None:
        """A sign of life that was sent then has arrived."""
        self._until = sent_at + self._life_s
        self.renewed()

    def left(self) -> float | None:
        """Seconds until this process must have stopped, below zero when it is late; None before the first."""
        return None if self._until is None else self._until - self._clock()

    def is_over(self) -> bool:
        """Whether others may hold by now what this process leased."""
        left = self.left()
        return left is not None and left <= 0
