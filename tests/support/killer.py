"""A bad day for a stack: its processes are killed at random points of the work, the same each time."""

import os
import random
import signal
import threading
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

import redis

from tests.support.stacks import RunningStack

FLUSH = "FLUSHALL"
"""Not a process: Redis forgets everything."""

_LOOK_S = 0.02


def pids(stack: RunningStack) -> dict[str, int]:
    """The processes that run now, by name."""
    return {item.name: item.pid for item in stack.processes() if item.pid and item.state == "RUNNING"}


class Killer:
    """Kills each of `victims` `times` times, in random order, as `progress()` passes random points below
    `total`. One that does not run, because it is only coming back, is waited for.
    """

    def __init__(
        self,
        stack: RunningStack,
        victims: Sequence[str],
        *,
        times: int,
        progress: Callable[[], int],
        total: int,
        seed: int,
    ) -> None:
        chance = random.Random(seed)
        self.left = chance.sample([*victims] * times, len(victims) * times)
        self._points = sorted(chance.choices(range(total), k=len(self.left)))
        self._stack = stack
        self._progress = progress
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="killer", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        self._thread.join()

    def _run(self) -> None:
        for point in self._points:
            while self._progress() < point or not self._kill(self.left[0]):
                if self._stopped.wait(_LOOK_S):
                    return
            del self.left[0]

    def _kill(self, victim: str) -> bool:
        if victim == FLUSH:
            with redis.Redis.from_url(self._stack.redis_url) as client:
                client.flushall()
            return True
        try:
            os.kill(pids(self._stack)[victim], signal.SIGKILL)
        except (KeyError, ProcessLookupError):
            return False
        return True
