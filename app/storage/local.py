"""A storage in a folder of this machine, or of a file system that all machines mount."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from app.errors import NoRoom, Unavailable
from app.observability import metrics
from app.storage.store import CHUNK, Storage, StorageMissing, Writer, checked, cut_short
from app.storage.waiting import aside

_NO_ROOM = {
    errno.ENOSPC: "the file storage is full",
    errno.EDQUOT: "the file storage is full",
    errno.EROFS: "the file storage can only be read",
    errno.EIO: "the file storage's disk fails",
}


class LocalStorage(Storage):
    """One file an object. It is written beside its place, made durable, and then moved there."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)

    @contextmanager
    def write(self, key: str) -> Iterator[Writer]:
        """See `Storage`. After a crash of the machine, too, the object is whole or not there."""
        path = self._path(key)
        scratch = _scratch(path)
        with _failures_told():
            file = aside(_create, scratch)

        def put(chunk: bytes) -> None:
            with _failures_told():
                aside(_write, file, chunk)

        try:
            writer = Writer(put)
            yield writer
            writer.flush()
            with _failures_told():
                aside(self._keep, file, path)
        except BaseException:
            file.close()
            with suppress(OSError):
                scratch.unlink(missing_ok=True)
            raise

    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """See `Storage`."""
        with _failures_told(), _absence_told():
            file = aside(_open, self._path(key), start)
        return _chunks(file, None if end is None else end - start)

    def delete(self, key: str) -> None:
        """See `Storage`."""
        path = self._path(key)
        with _failures_told():
            for each in (_scratch(path), path):
                aside(each.unlink, True)

    def size(self, key: str) -> int:
        """See `Storage`."""
        with _failures_told(), _absence_told():
            return self._path(key).stat().st_size

    def _path(self, key: str) -> Path:
        return self._root / checked(key)

    def _keep(self, file: BinaryIO, path: Path) -> None:
        os.fsync(file.fileno())
        file.close()
        _scratch(path).replace(path)
        # The folders may be new, and a name is as durable as the folder it stands in.
        for folder in path.parents:
            if folder.is_relative_to(self._root):
                _sync_folder(folder)


def _scratch(path: Path) -> Path:
    return path.with_name(f"{path.name}.part")


def _create(scratch: Path) -> BinaryIO:
    # `parents=True` would give those above the usual mode.
    for folder in reversed(scratch.parents):
        if not folder.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
    return os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb", buffering=0)


def _write(file: BinaryIO, chunk: bytes) -> None:
    left = memoryview(chunk)
    while left:
        left = left[file.write(left) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open(path: Path, start: int) -> BinaryIO:
    file = path.open("rb", buffering=0)
    file.seek(start)
    return file


def _chunks(file: BinaryIO, left: int | None) -> Iterator[bytes]:
    with file:
        while left is None or left > 0:
            with _failures_told():
                chunk = aside(file.read, CHUNK if left is None else min(CHUNK, left))
            if not chunk:
                if left is not None:
                    raise cut_short()
                return
            left = None if left is None else left - len(chunk)
            yield chunk


@contextmanager
def _failures_told() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            metrics.NO_ROOM.labels("storage").inc()
            raise NoRoom(_NO_ROOM[error.errno]) from error
        raise Unavailable(f"the file storage can't be used: {error.strerror}") from error


@contextmanager
def _absence_told() -> Iterator[None]:
    try:
        yield
    except FileNotFoundError as error:
        raise StorageMissing("nothing is stored under this key") from error
