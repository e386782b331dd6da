"""Which device a child runs its models on, and how many threads it may use. Torch is imported only here
and in models, and only in a child.
"""

import os
import sys
from pathlib import Path

from app.cores import cores

SPINS = "20000"
"""Enough to go on from one layer to the next; then a thread sleeps."""

_TORCH_CPU = "DefaultCPUAllocator: can't allocate memory"
# Device nodes of NVIDIA's driver (also inside WSL) and of AMD's, which torch calls cuda too.
_GPU_NODES = ("/dev/nvidiactl", "/dev/dxg", "/dev/kfd")


def choose(wanted: str, slot: int) -> str:
    """The device for child number `slot` of its worker: `auto` takes cuda, then mps, then cpu.

    With several GPUs the children take turns: one child per GPU. Torch is asked only where there may
    be a GPU, so that a child that runs no torch model does not pay for importing it.
    """
    if wanted != "auto":
        return wanted
    if sys.platform == "linux" and not any(Path(node).exists() for node in _GPU_NODES):
        return "cpu"
    try:
        import torch
    except ImportError:
        return "cpu"
    if torch.cuda.is_available():
        return f"cuda:{slot % torch.cuda.device_count()}"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def limit_threads(wanted: int, children: int) -> None:
    """Give this child its share of the cores; more threads than cores make every child slower.

    By environment, which torch and its libraries read when they are first imported.
    """
    threads = str(wanted or max(1, cores() // children))
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = threads
    # libgomp's threads spin for milliseconds after a forward pass, while Postgres wants the core.
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device, or this process, ran out of memory.

    torch.OutOfMemoryError is known by name, since torch may not be loaded; on CPUs torch raises a
    RuntimeError that says so.
    """
    if isinstance(error, MemoryError):
        return True
    if any(cls.__name__ == "OutOfMemoryError" for cls in type(error).__mro__):
        return True
    return isinstance(error, RuntimeError) and _TORCH_CPU in str(error)


def empty_cache(device: str) -> None:
    """Give cached device memory back, so that a smaller batch has all of it."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def synchronize(device: str) -> None:
    """Wait for the device, so that a clock read after it measures the forward pass and not its launch."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
