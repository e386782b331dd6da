"""How much memory this process holds, and how much it may."""

import contextlib
import os
import sys
from pathlib import Path

_DEFAULT_SHARE = 0.8
_EXPENDABLE = "500"
_CGROUP_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def resident_mb() -> float:
    """The resident set in MiB; where the system does not tell it at this moment, its peak."""
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def limit(wanted_mb: int) -> int | None:
    """Let this process hold no more than this of its own, for good; 0 is most of the machine or container.

    The kernel refuses what is beyond, in the middle of a forward pass as well: an allocation fails, and with
    it the input that asked for it, instead of the machine. Memory that is mapped and not written to does not
    count, nor does a device's. Returns the limit in MiB, or None where the system knows none (not Linux).
    """
    if sys.platform != "linux":
        return None
    import resource

    allowed = wanted_mb * 2**20 if wanted_mb else int(available() * _DEFAULT_SHARE)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        allowed = min(allowed, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (allowed, allowed))
    # Should the machine run out all the same, the kernel ends a child, not Postgres.
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text(_EXPENDABLE)
    return allowed // 2**20


def available() -> int:
    """Bytes of memory that this machine has, or this container may have."""
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in _CGROUP_LIMITS:
        with contextlib.suppress(OSError, ValueError):
            found = min(found, int(Path(path).read_text()))
    return found
