"""A file on its way in: an object first, then a row, and nothing if it breaks off in between."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from app.db import files as sql
from app.db.accept import IdempotencyKey, Repeated
from app.db.engine import Engine
from app.domain.ids import new_uuid
from app.errors import Unavailable
from app.observability import metrics
from app.storage import Storage, Writer

_log = structlog.get_logger()


class Upload:
    """A file that is arriving: write all of it, then keep it."""

    def __init__(
        self, engine: Engine, tenant_id: int, file_id: UUID, writer: Writer, finish: ExitStack
    ) -> None:
        self._engine = engine
        self._tenant_id = tenant_id
        self._file_id = file_id
        self._writer = writer
        self._finish = finish
        self.kept = False

    @property
    def size(self) -> int:
        """How many bytes were written."""
        return self._writer.size

    @property
    def sha256(self) -> bytes:
        """The digest of what was written."""
        return self._writer.sha256

    def write(self, data: bytes) -> None:
        """Add these bytes. Raises `Unavailable`."""
        self._writer.write(data)

    def keep(
        self,
        purpose: str,
        filename: str,
        *,
        expires_at: datetime | None = None,
        expires_after_s: float | None = None,
        batch_id: UUID | None = None,
        once: IdempotencyKey | None = None,
        quota: int | None = None,
    ) -> Any | Repeated | None:
        """That was all: make it a file. Returns what `app.db.files.insert` does."""
        new = self.finish(
            purpose, filename, expires_at=expires_at, expires_after_s=expires_after_s, batch_id=batch_id
        )
        written = sql.insert(self._engine, new, once, quota)
        if written is not None and not isinstance(written, Repeated):
            self.was_kept(purpose)
        return written

    def finish(
        self,
        purpose: str,
        filename: str,
        *,
        expires_at: datetime | None = None,
        expires_after_s: float | None = None,
        batch_id: UUID | None = None,
    ) -> sql.NewFile:
        """That was all. It is a file once `app.db.files.keep` is committed, which `was_kept` must be told."""
        new = sql.NewFile(
            id=self._file_id,
            tenant_id=self._tenant_id,
            purpose=purpose,
            filename=filename,
            size=self.size,
            sha256=self.sha256,
            expires_at=expires_at,
            expires_after_s=expires_after_s,
            batch_id=batch_id,
        )
        self._finish.close()
        return new

    def was_kept(self, purpose: str) -> None:
        """It is a file."""
        self.kept = True
        metrics.FILES_STORED.labels(purpose).inc()
        metrics.FILES_STORED_BYTES.labels(purpose).inc(self.size)


@contextmanager
def uploading(engine: Engine, storage: Storage, tenant_id: int) -> Iterator[Upload]:
    """Write a file. If it was not kept when the block ends, however that ends, nothing is left of it."""
    file_id = new_uuid()
    key = sql.object_key(tenant_id, file_id)
    writing = storage.write(key)
    sql.announce(engine, key)
    upload = None
    try:
        with ExitStack() as finish:
            upload = Upload(engine, tenant_id, file_id, finish.enter_context(writing), finish)
            yield upload
    finally:
        if upload is None or not upload.kept:
            remove(engine, storage, key)


def put_aside(engine: Engine, storage: Storage, tenant_id: int, content: bytes) -> tuple[UUID, bytes]:
    """Store an object that somebody else makes a file of, or removes. Returns the file's id, and the SHA-256.

    Raises `Unavailable`; then nothing is left of it.
    """
    file_id = new_uuid()
    key = sql.object_key(tenant_id, file_id)
    sql.announce(engine, key)
    try:
        with storage.write(key) as writer:
            writer.write(content)
    except BaseException:
        remove(engine, storage, key)
        raise
    return file_id, writer.sha256


def remove(engine: Engine, storage: Storage, key: str) -> None:
    """Remove a stray object now, or leave it to the scheduler if the storage or the database is away.

    An object that is a file's is left alone: whoever failed to hear that it was kept may ask.
    """
    try:
        if sql.condemn(engine, key):
            storage.delete(key)
            sql.forget_strays(engine, [key])
    except Unavailable as error:
        _log.warning("files.left_stray", key=key, reason=str(error))
