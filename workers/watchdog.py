"""The watchdog that a hung model can't fool: a C thread that needs no GIL ends the process.

It barks at whichever comes first: the end of the batch's time, or the end of the lease. A child that is cut
off from Postgres, was stopped for a while, or whose model lets no heartbeat through is ended before anybody
else may be given its jobs.
"""

import faulthandler
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

from workers.lease import Lease

MARGIN_S = 0.5
"""The row in Postgres is marked a moment before: a child that ends here is surely past its deadline."""

_SOONEST_S = 0.001


class _Watchdog:
    """Arms the one timer that a process has."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lease: Lease | None = None
        self._until: float | None = None

    def watch(self, lease: Lease) -> None:
        """From now on the lease counts, too."""
        self._lease = lease
        lease.renewed = self._renewed

    @contextmanager
    def guarded(self, seconds: float) -> Iterator[None]:
        with self._lock:
            self._until = time.monotonic() + seconds + MARGIN_S
            self._arm()
        try:
            yield
        finally:
            with self._lock:
                self._until = None
                faulthandler.cancel_dump_traceback_later()

    def _renewed(self) -> None:
        with self._lock:
            if self._until is not None:
                self._arm()

    def _arm(self) -> None:
        assert self._until is not None
        left = self._until - time.monotonic()
        of_lease = self._lease.left() if self._lease else None
        if of_lease is not None:
            left = min(left, of_lease)
        faulthandler.dump_traceback_later(max(left, _SOONEST_S), exit=True, file=2)


_watchdog = _Watchdog()
watch = _watchdog.watch


def guarded(seconds: float) -> AbstractContextManager[None]:
    """End this process, with every thread's traceback in the log, if the block takes longer or the lease of
    what it works on ends meanwhile.

    Celery replaces the process; the jobs it had in hand are rescued. `faulthandler`'s timer is a
    thread in C, so a model that holds the GIL or never returns from an extension is ended too.
    """
    return _watchdog.guarded(seconds)
