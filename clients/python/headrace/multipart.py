"""One file as a form (RFC 7578), read as it is sent and never held as a whole."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO
from uuid import uuid4

from headrace.errors import ChecksumError
from headrace.transport import Upload

_CHUNK_BYTES = 262_144


class FileForm:
    """A form with `fields`, and `file` from `start` to its end. `sha256` is that of what was sent last."""

    def __init__(
        self,
        file: BinaryIO,
        start: int,
        length: int,
        filename: str,
        fields: Mapping[str, str],
        on_progress: Callable[[int, int], object] | None,
    ) -> None:
        self._file = file
        self._start = start
        self._length = length
        self._on_progress = on_progress
        self.sha256 = ""
        boundary = uuid4().hex
        texts = [_part(boundary, f'name="{name}"') + value.encode() for name, value in fields.items()]
        named = f'name="file"; filename="{_quoted(filename)}"'
        head = _part(boundary, named, "Content-Type: application/octet-stream")
        self._before = b"\r\n".join([*texts, head])
        self._after = f"\r\n--{boundary}--\r\n".encode()
        self.upload = Upload(
            f"multipart/form-data; boundary={boundary}",
            len(self._before) + length + len(self._after),
            self._pieces,
        )

    def _pieces(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        digest, sent = hashlib.sha256(), 0
        yield self._before
        while sent < self._length:
            piece = self._file.read(min(_CHUNK_BYTES, self._length - sent))
            if not piece:
                raise ChecksumError("the file became shorter while it was sent")
            digest.update(piece)
            yield piece
            sent += len(piece)
            if self._on_progress:
                self._on_progress(sent, self._length)
        self.sha256 = digest.hexdigest()
        yield self._after


def _part(boundary: str, disposition: str, *more: str) -> bytes:
    lines = (f"--{boundary}", f"Content-Disposition: form-data; {disposition}", *more, "", "")
    return "\r\n".join(lines).encode()


def _quoted(filename: str) -> str:
    # As browsers do (WHATWG HTML, 4.10.21.8). A name of the file system may hold what is no UTF-8.
    name = filename.encode("utf-8", "replace").decode()
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
