"""Files. A row is made last and removed first, so what can be seen can be read."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from app.db import files as sql
from app.db.accept import Repeated
from app.db.engine import Engine
from app.domain.ids import InvalidId, parse_id
from app.errors import Conflict, NotFound, TooLarge, Unavailable
from app.intake.authenticate import Principal
from app.intake.file_request import FileForm, Listing
from app.intake.file_view import FILE
from app.intake.idempotency import once, reused
from app.intake.upload import remove, uploading
from app.observability import metrics
from app.settings import Files as Limits
from app.storage import Storage, StorageMissing

ENDPOINT = "files"
"""Whose idempotency keys these are."""

ReadForm = Callable[[Callable[[bytes], None]], FileForm]
"""Reads a form to its end, giving the file's bytes to its argument as they come."""

_AT_A_TIME = 50
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Received:
    """A file that was sent. `replayed`: an earlier request with the same key made it."""

    row: Any
    replayed: bool = False


def receive(
    engine: Engine,
    storage: Storage,
    principal: Principal,
    limits: Limits,
    read_form: ReadForm,
    key: str | None = None,
) -> Received:
    """Store the file of a form while it arrives. `key` makes repeating safe.

    Raises what reading the form does, `TooLarge` for a file over the limit or over what is left of the quota,
    `Invalid` if the key was used for something else, `Conflict` if its file is gone. Then nothing is left.
    """
    room = limits.quota_bytes - sql.used(engine, principal.tenant_id)
    with uploading(engine, storage, principal.tenant_id) as upload:

        def write(data: bytes) -> None:
            size = upload.size + len(data)
            if size > limits.max_bytes:
                raise too_large(limits)
            # With a key, the file may be there already and need no room.
            if size > room and key is None:
                raise over_quota(limits)
            upload.write(data)

        asked = read_form(write)
        written = upload.keep(
            asked.purpose,
            asked.file,
            expires_after_s=asked.seconds,
            once=once(key, ENDPOINT, _same(asked, upload.sha256)),
            quota=limits.quota_bytes,
        )
    if written is None:
        raise over_quota(limits)
    if isinstance(written, Repeated):
        return Received(_first(engine, principal, written), replayed=True)
    return Received(written)


def store(
    engine: Engine,
    storage: Storage,
    tenant_id: int,
    purpose: str,
    filename: str,
    chunks: Iterable[bytes],
    batch_id: UUID | None = None,
    expires_at: datetime | None = None,
) -> Any:
    """Store what this server made for a tenant. Returns the file's row.

    It counts towards the quota but is never refused: what was computed is not lost for want of room.
    """
    with uploading(engine, storage, tenant_id) as upload:
        for chunk in chunks:
            upload.write(chunk)
        return upload.keep(purpose, filename, batch_id=batch_id, expires_at=expires_at)


def parse_file_id(text: str) -> UUID:
    """The id in a URL. Raises `NotFound`: what is no id names no file."""
    try:
        return parse_id(FILE, text)
    except InvalidId:
        raise _not_found() from None


def fetch(engine: Engine, tenant_id: int, file_id: UUID) -> Any:
    """The file's row. Raises `NotFound`, also once it is past its `expires_at`."""
    row = sql.get(engine, tenant_id, file_id)
    if row is None:
        raise _not_found()
    return row


def content(storage: Storage, row: Any, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """The file's bytes from `start` to before `end`. Raises `Unavailable`, half-way too."""
    key = sql.object_key(row.tenant_id, row.id)
    try:
        return storage.read(key, start, row.bytes if end is None else end)
    except StorageMissing as error:
        # Deleted since the row was read, or it is another storage than it was.
        _log.error("files.object_missing", key=key)
        raise Unavailable("the file's content is not in the storage") from error


def list_page(engine: Engine, principal: Principal, asked: Listing) -> Sequence[Any]:
    """Rows of the tenant's files; one more than the limit if there are more."""
    return sql.list_page(
        engine,
        principal.tenant_id,
        asked.limit,
        asked.after,
        oldest_first=asked.oldest_first,
        purpose=asked.purpose,
    )


def delete(engine: Engine, storage: Storage, principal: Principal, file_id: UUID) -> None:
    """Remove the file; its object goes later if the storage is away. Raises `NotFound`."""
    key = sql.delete(engine, principal.tenant_id, file_id)
    if key is None:
        raise _not_found()
    remove(engine, storage, key)


def prune(engine: Engine, storage: Storage, limit: int = _AT_A_TIME) -> tuple[int, int]:
    """Remove expired files, and objects that no file needs, `limit` of each. Returns how many.

    With the storage away, objects are left for the next time. Raises `Unavailable` without the database.
    """
    expired, gone = sql.expire(engine, limit), []
    for key in sql.due_strays(engine, limit):
        try:
            storage.delete(key)
        except Unavailable as error:
            _log.warning("files.storage_away", reason=str(error))
            break
        gone.append(key)
    if gone:
        sql.forget_strays(engine, gone)
    return expired, len(gone)


def too_large(limits: Limits) -> TooLarge:
    """No file may be as large."""
    return TooLarge("file_too_large", f"the file is over {limits.max_bytes} bytes")


def over_quota(limits: Limits) -> TooLarge:
    """There is no room for this file."""
    return TooLarge(
        "file_quota_exceeded",
        f"with this file, your files would take more than {limits.quota_bytes} bytes; delete some first",
    )


def _not_found() -> NotFound:
    """The same for a file that never was, for one that is gone, and for one of somebody else."""
    return NotFound("file_not_found", "there is no such file")


def _same(asked: FileForm, sha256: bytes) -> dict[str, Any]:
    """What makes two uploads the same: not how their forms were written."""
    return {
        "purpose": asked.purpose,
        "filename": asked.file,
        "expires_after_s": asked.seconds,
        "sha256": sha256.hex(),
    }


def _first(engine: Engine, principal: Principal, written: Repeated) -> Any:
    if not written.same:
        raise reused()
    row = sql.get(engine, principal.tenant_id, written.resource_id)
    if row is None:
        raise Conflict("file_gone", "the file that this key made was deleted, or has expired")
    metrics.ACCEPT_REPLAYS.inc()
    return row
