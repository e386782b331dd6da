"""Wait for something that another process does. Tests never sleep: they poll, with a deadline and a name."""

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.05
_pause = threading.Event()


def wait_until(predicate: Callable[[], T], deadline_s: float, what: str) -> T:
    """Return the first true value of `predicate`; fail the test when there is none in time.

    The last exception or value goes into the message: it is why.
    """
    end = time.monotonic() + deadline_s
    while True:
        seen: object
        try:
            value = predicate()
            if value:
                return value
            seen = value
        except Exception as error:
            seen = error
        if time.monotonic() > end:
            raise AssertionError(f"waited {deadline_s} s for {what}; last seen: {seen!r}")
        _pause.wait(_POLL_S)
