"""`client.files`: what is sent to be run in bulk, and what comes of it."""

import hashlib
import os
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import BinaryIO

from headrace import pages
from headrace.arguments import given, in_path
from headrace.content import Content
from headrace.errors import ChecksumError
from headrace.headers import key_header
from headrace.multipart import FileForm
from headrace.record import Record
from headrace.spool import rewindable
from headrace.transport import Transport
from headrace.types import FilePurpose

_PATH = "/v1/files"
_CHUNK_BYTES = 1 << 20


class File(Record):
    """A file that the server keeps. Its content never changes."""

    @property
    def filename(self) -> str:
        """What it was called where it came from."""
        return str(self._raw.get("filename", ""))

    @property
    def purpose(self) -> FilePurpose:
        """What it is for: `batch`, `vision` or `user_data` if it was uploaded, else what wrote it."""
        purpose: FilePurpose = self._raw["purpose"]
        return purpose

    @property
    def sha256(self) -> str | None:
        """Of its content, in hex."""
        return self._raw.get("sha256")

    @property
    def created_at(self) -> datetime | None:
        """When it was stored."""
        return self._moment("created_at")

    @property
    def expires_at(self) -> datetime | None:
        """When it is deleted; None if it is kept until somebody deletes it."""
        return self._moment("expires_at")

    @property
    def bytes(self) -> int:
        """How large it is."""
        return int(self._raw["bytes"])


class Files:
    """Send, find, read and remove files."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        file: str | os.PathLike[str] | BinaryIO,
        *,
        purpose: FilePurpose = "batch",
        expires_after: int | None = None,
        filename: str | None = None,
        idempotency_key: str | None = None,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> File:
        """Upload a file: a path, or one that is open for reading in binary, from where it stands. One that is
        media in the input of jobs has the `purpose` `vision` or `user_data`.

        It is read as it is sent, so that it may be larger than the memory. `expires_after` is in seconds;
        without it the file is kept until it is deleted. `on_progress` is called with the bytes that were
        sent and how many there are, and begins again if a broken connection makes it be sent again.
        Raises `PayloadTooLargeError`, and `ChecksumError` if the server received something else.

        >>> import io
        >>> line = b'{"custom_id": "a", "body": {"model": "echo", "input": {}}}'
        >>> client.files.create(io.BytesIO(line), filename="lines.jsonl").bytes
        58
        """
        fields = {"purpose": str(purpose)}
        if expires_after is not None:
            fields |= {"expires_after[anchor]": "created_at", "expires_after[seconds]": str(expires_after)}
        headers = key_header(idempotency_key)
        with rewindable(file) as (source, start, length, its_name):
            form = FileForm(source, start, length, filename or its_name, fields, on_progress)
            answer = self._transport.request("POST", _PATH, upload=form.upload, headers=headers)
        made = File(answer.data)
        if form.sha256 and made.sha256 not in (None, form.sha256):
            raise ChecksumError(f"the server received another content than was sent ({made.id})")
        return made

    def get(self, file_id: str) -> File:
        """What is known of a file, without its content. Raises `NotFoundError`."""
        return File(self._transport.request("GET", _path(file_id)).data)

    def list(
        self, *, purpose: FilePurpose | None = None, after: str | None = None, limit: int | None = None
    ) -> Iterator[File]:
        """Files, newest first, fetched page by page while you iterate.

        `limit` is the most you get in all; `after` is the id to go on after.
        """
        params = given(purpose=purpose, after=after)
        return (File(raw) for raw in pages.items(self._transport, _PATH, params, limit))

    def delete(self, file_id: str) -> None:
        """Remove a file, for good."""
        self._transport.request("DELETE", _path(file_id))

    def content(self, file_id: str) -> Iterator[bytes]:
        """The content as it comes, in pieces of any size.

        Broken connections are resumed where they were. After the last piece, `ChecksumError` is raised
        if all of them together are not what the server has.
        """
        return iter(Content(self._transport, _path(file_id, "/content")))

    def download(
        self,
        file_id: str,
        path: str | os.PathLike[str],
        *,
        on_progress: Callable[[int, int], object] | None = None,
    ) -> Path:
        """Write the content to `path`, which is there only once all of it is, and is right.

        Until then it is beside it, in a file that ends in `.part`: called again after a crash, what is in
        there is not fetched again. `on_progress` is called with the bytes that are there and how many
        there will be. Raises `ChecksumError` if what came is not what the server has.
        """
        file = self.get(file_id)
        path = Path(path)
        part = path.with_name(f".{path.name}.{file.id}.part")
        with part.open("a+b") as out:
            if out.tell() > file.bytes:
                out.truncate(0)
            digest, start = _digest_of(out)
            rest = Content(self._transport, _path(file_id, "/content"), start, digest, file.bytes)
            for piece in rest:
                out.write(piece)
                if on_progress:
                    on_progress(out.tell(), file.bytes)
        if file.sha256 not in (None, digest.hexdigest()):
            part.unlink()
            raise ChecksumError(f"what came of {file.id} is not what the server has")
        os.replace(part, path)
        return path


def _digest_of(file: BinaryIO) -> "tuple[hashlib._Hash, int]":
    digest = hashlib.sha256()
    file.seek(0)
    while piece := file.read(_CHUNK_BYTES):
        digest.update(piece)
    return digest, file.tell()


def _path(file_id: str, action: str = "") -> str:
    return f"{_PATH}/{in_path(file_id, 'a file')}{action}"
