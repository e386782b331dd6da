"""How many cores there are for this process."""

import os


def cores() -> int:
    """Those that it may run on, where the system tells; else all there are. At least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
