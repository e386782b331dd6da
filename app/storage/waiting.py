"""Waiting for a disk without holding up others."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


def aside(work: Callable[..., T], *arguments: Any) -> T:
    """`work(*arguments)`, in a thread of its own where one thread serves many requests.

    gevent lets others run while a socket waits, but a disk holds up the thread that waits for it: an fsync of
    200 MB would stop every request of the process for as long.
    """
    monkey = sys.modules.get("gevent.monkey")
    if monkey is None or not monkey.is_module_patched("threading"):
        return work(*arguments)
    import gevent

    result: T = gevent.get_hub().threadpool.apply(work, arguments)
    return result
