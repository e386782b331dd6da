"""Any source of bytes as a file that can be read again from its beginning, without holding it in memory."""

import io
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, cast

_IN_MEMORY_BYTES = 4 << 20
_CHUNK_BYTES = 262_144
_DEFAULT_NAME = "upload.jsonl"


@contextmanager
def written(pieces: Iterable[bytes]) -> Iterator[BinaryIO]:
    """A file of these, at its beginning: in memory while it is small, and gone at the end."""
    with SpooledTemporaryFile(max_size=_IN_MEMORY_BYTES) as file:
        # Its writelines would hold all of them before it looks at the size.
        for piece in pieces:
            file.write(piece)
        file.seek(0)
        yield cast(BinaryIO, file)


@contextmanager
def rewindable(
    file: str | os.PathLike[str] | BinaryIO,
) -> Iterator[tuple[BinaryIO, int, int, str]]:
    """(file, where it begins, how many bytes it has from there, its name).

    A pipe is copied first, since after a broken connection it has to be sent again.
    """
    if isinstance(file, (str, os.PathLike)):
        with open(file, "rb") as opened:
            yield opened, 0, opened.seek(0, io.SEEK_END), Path(file).name
        return
    if isinstance(file, io.TextIOBase):
        raise TypeError('a file must be open for reading in binary: open(path, "rb")')
    if not hasattr(file, "read"):
        kind = type(file).__name__
        raise TypeError(
            f"a file is a path, or open for reading in binary, not {kind}; bytes: io.BytesIO(content)"
        )
    its_name = getattr(file, "name", None)
    name = Path(its_name).name if isinstance(its_name, str) and its_name[:1] != "<" else _DEFAULT_NAME
    if file.seekable():
        start = file.tell()
        yield file, start, file.seek(0, io.SEEK_END) - start, name
        return
    with written(iter(lambda: file.read(_CHUNK_BYTES), b"")) as copy:
        yield copy, 0, copy.seek(0, io.SEEK_END), name
