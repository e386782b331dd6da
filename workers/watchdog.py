"""The watchdog that a hung model can't fool: a C thread that needs no GIL ends the process."""

import faulthandler
from collections.abc import Iterator
from contextlib import contextmanager

MARGIN_S = 0.5
"""The row in Postgres is marked a moment before: a child that ends here is surely past its deadline."""


@contextmanager
def guarded(seconds: float) -> Iterator[None]:
    """End this process, with every thread's traceback in the log, if the block takes longer.

    Celery replaces the process; the jobs it had in hand are rescued. `faulthandler`'s timer is a
    thread in C, so a model that holds the GIL or never returns from an extension is ended too.
    """
    faulthandler.dump_traceback_later(seconds + MARGIN_S, exit=True, file=2)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()
