"""A disk that is full when told: a small tmpfs, for which Linux asks for root."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from tests.support.servers import PostgresServer

_BLOCK = b"\0" * 65536


@dataclass(frozen=True)
class SmallDisk:
    """A folder with a file system of its own."""

    folder: Path

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> None:
        """Leave no byte."""
        with contextlib.suppress(OSError), self._filler.open("ab", buffering=0) as file:
            while file.write(_BLOCK):
                pass

    def free(self) -> None:
        """As it was before."""
        self._filler.unlink(missing_ok=True)

    @contextlib.contextmanager
    def read_only(self) -> Iterator[None]:
        """As after the kernel found an error."""
        self._remount("ro")
        try:
            yield
        finally:
            self._remount("rw")

    def _remount(self, how: str) -> None:
        command = ["mount", "-o", f"remount,{how}", str(self.folder)]
        subprocess.run(command, check=True, capture_output=True)


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[SmallDisk]:
    """Mounted at `folder`, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0777", "none", str(folder)]
    subprocess.run(command, check=True, capture_output=True)
    try:
        yield SmallDisk(folder)
    finally:
        # Lazily: a server may hold a file of it for a moment.
        subprocess.run(["umount", "-l", str(folder)], check=True, capture_output=True)


@contextlib.contextmanager
def database_on(disk: SmallDisk, server: PostgresServer, template: str) -> Iterator[str]:
    """The URL of a copy of `template` whose tables lie on this disk. The write-ahead log lies elsewhere."""
    place = disk.folder / "tables"
    place.mkdir()
    place.chmod(0o777)
    server.give(place)
    server.execute(f"CREATE TABLESPACE small LOCATION '{place}'")
    try:
        with server.database(template, "TABLESPACE small") as url:
            yield url
    finally:
        disk.free()
        server.execute("DROP TABLESPACE small")


@cache
def _may_mount() -> bool:
    try:
        with tempfile.TemporaryDirectory() as folder, small_disk(Path(folder) / "disk", 1):
            return True
    except (OSError, subprocess.CalledProcessError):
        return False


needs_small_disk = pytest.mark.skipif(not _may_mount(), reason="needs root, and Linux's mount")
