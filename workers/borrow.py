"""Cores of idle siblings: what runs while nobody else works runs on them too, as long as that is faster.

The children of a worker divide its cores, which is best while all of them are busy. A lone micro-batch on an
idle worker would leave the others' cores unused, and somebody waits for it.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHORTEST_S = 0.002
"""What runs shorter gains nothing."""
WORTH = 0.9
"""A run with borrowed cores is worth it if it takes at most this part of what was predicted without."""
PATIENCE = 4
"""After so many in a row that were not worth it, somebody else uses those cores…"""
PAUSE_S = 60.0
"""…and none are borrowed for so long."""


class Borrowed:
    """Threads that one child adds to its own. For torch on a CPU; anything else runs as it would have."""

    def __init__(self, on: bool, clock: Callable[[], float] = time.perf_counter) -> None:
        self._on = on
        self._clock = clock
        self._vain = 0
        self._until = 0.0

    @contextmanager
    def cores(self, idle: int, predicted_s: float | None) -> Iterator[bool]:
        """Run the block on the cores of so many idle siblings besides the own ones. Gives whether it does:
        such a run says nothing about what one child can do.
        """
        started = self._clock()
        torch = sys.modules.get("torch")
        if (
            not self._on
            or not idle
            or predicted_s is None
            or predicted_s < SHORTEST_S
            or started < self._until
            or torch is None
            or _compiles()
        ):
            yield False
            return
        own = torch.get_num_threads()
        torch.set_num_threads(own * (1 + idle))
        try:
            yield True
        finally:
            torch.set_num_threads(own)
            self._judge(self._clock(), started, predicted_s)

    def _judge(self, now: float, started: float, predicted_s: float) -> None:
        self._vain = 0 if now - started <= WORTH * predicted_s else self._vain + 1
        if self._vain >= PATIENCE:
            self._vain, self._until = 0, now + PAUSE_S


def _compiles() -> bool:
    """Whether anything here went through torch.compile: it would be compiled again for other threads."""
    dynamo = sys.modules.get("torch._dynamo.utils")
    return dynamo is not None and bool(dynamo.counters["frames"])
