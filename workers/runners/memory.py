"""How much memory this process holds."""

import os
import sys
from pathlib import Path


def resident_mb() -> float:
    """The resident set in MiB; where the system does not tell it at this moment, its peak."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
