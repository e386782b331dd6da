"""Counts of what waits, made beside the requests that go by them: in a thread, and how often.

By the time that Postgres counted, not by how long the count was waited for: a busy process waits long for
what took a moment, and would go by old counts just when much comes in.
"""

import threading
from collections.abc import Callable

_AT_MOST = 1 / 20
"""The share of time that Postgres may count for one asker."""


def rest_s(took_s: float, least_s: float) -> float:
    """For how many seconds a count holds that took Postgres `took_s`; never under `least_s`."""
    return max(least_s, took_s / _AT_MOST)


def beside(call: Callable[[], None]) -> None:
    """Make a count while the request that found it due goes on."""
    threading.Thread(target=call, daemon=True).start()
