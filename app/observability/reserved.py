"""A process's metrics in files whose disk may be full: then in memory, until there is room.

prometheus_client maps files that it makes without reserving their blocks. On a full disk the first write to
a fresh block is a SIGBUS, which ends the process: an API that stops answering, a child that dies with jobs in
hand. So blocks are reserved first, and where there are none the values stay with the process, unseen by
whoever answers a scrape for all.
"""

import contextlib
import mmap
import os
import sys
import time
from typing import Any

from prometheus_client import values
from prometheus_client.mmap_dict import MmapedDict

RETRY_S = 30.0
_FIRST = 1 << 16


class ReservedDict(MmapedDict):
    """See `MmapedDict`: as that one is in the mode for writing, whatever becomes of its file."""

    def __init__(self, filename: str) -> None:
        self._name = filename
        self._retry_at = 0.0
        if self._reserve(_FIRST):
            # It may still be refused: this process has too many files open.
            with contextlib.suppress(OSError):
                super().__init__(filename)
                return
        self._f, self._fname, self._positions, self._used = None, filename, {}, 8
        self._live_in_memory(b"", _FIRST)

    def _init_value(self, key: str) -> None:
        # Its key, how long that is, the padding, the value and its time.
        needs = self._used + len(key.encode()) + 40
        capacity = self._capacity
        while capacity < needs:
            capacity *= 2
        if capacity > self._capacity and (self._f is None or not self._reserve(capacity)):
            self._live_in_memory(self._m[: self._used], capacity)
        super()._init_value(key)

    def _write_in_memory(self, key: str, value: float, timestamp: float) -> None:
        """Write it down, and go back to the file if there is room again."""
        super().write_value(key, value, timestamp)
        if time.monotonic() >= self._retry_at:
            self._go_back()

    def close(self) -> None:
        """The values of this process are not wanted here any more."""
        if self._f is None and self._m is not None:
            self._m.close()
            self._m = None
        else:
            super().close()

    def _reserve(self, size: int) -> bool:
        """Whether the file has so many bytes that can be written."""
        try:
            with open(self._name, "ab") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            with contextlib.suppress(OSError):
                # Who collects can't read one that is empty; one with values stays, and is right up to now.
                if not os.path.getsize(self._name):
                    os.unlink(self._name)
            return False
        return True

    def _live_in_memory(self, content: bytes, size: int) -> None:
        if self._f is not None:
            self._m.close()
            self._f.close()
        self._f: Any = None
        self._m: Any = mmap.mmap(-1, size)
        self._capacity = size
        self._m[: len(content)] = content
        self._m[:4] = self._used.to_bytes(4, sys.byteorder)
        self._retry_at = time.monotonic() + RETRY_S
        # While there is a file, nothing shall stand between a count and its place.
        self.write_value = self._write_in_memory  # type: ignore[method-assign]

    def _go_back(self) -> None:
        self._retry_at = time.monotonic() + RETRY_S
        if not self._reserve(self._capacity):
            return
        try:
            file = open(self._name, "r+b")  # noqa: SIM115 - it lives as long as this
        except OSError:
            return
        mapped = mmap.mmap(file.fileno(), self._capacity)
        mapped[: self._used] = self._m[: self._used]
        self._m.close()
        self._f, self._m = file, mapped
        del self.write_value


def reserve_blocks() -> None:
    """Have every metric that is made from now on live in such files, if metrics are shared at all."""
    values.MmapedDict = ReservedDict  # type: ignore[misc, assignment]
