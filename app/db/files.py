"""The SQL of files, and of the objects in the storage that no file needs.

An object is written down as stray before it is written, and again by the statement that deletes its file.
So whoever is killed in between leaves a row that says what to remove, and nobody has to search the storage.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Engine, text

from app.db.accept import FIRST_ANSWER, IdempotencyKey, Repeated
from app.db.engine import connect, transaction
from app.domain.ids import format_id
from app.errors import Unavailable

UPLOAD_HOURS = 24
"""How long writing an object may take."""

# A file of one byte takes a block of a disk and a row here: the quota limits their number, too.
_LEAST = 4096

_COLUMNS = "id, tenant_id, purpose, filename, bytes, sha256, created_at, expires_at, batch_id"
_LIVE = "(expires_at IS NULL OR expires_at > now())"
# As `object_key` makes it.
_KEY = "'files/' || tenant_id || '/' || replace(CAST(id AS text), '-', '')"

_ANNOUNCE = text(
    f"""
    INSERT INTO stray_objects (key, due_at) VALUES (:key, now() + make_interval(hours => {UPLOAD_HOURS}))
    """
)
# Waits for a transaction that is about to keep it.
_CONDEMN = text("UPDATE stray_objects SET due_at = now() WHERE key = :key RETURNING key")
# A tenant's inserts are one at a time, or two could take the same room. A statement of its own, because one
# that waits for a lock goes on with the snapshot that it began with.
_ONE_AT_A_TIME = text("SELECT FROM tenants WHERE id = :tenant_id FOR NO KEY UPDATE")
_USED = text(
    f"""
    SELECT coalesce(sum(greatest(bytes, {_LEAST})), 0)::bigint FROM files
     WHERE tenant_id = :tenant_id AND {_LIVE}
    """
)
_REMEMBER = text(
    """
    INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id)
    VALUES (:tenant_id, :endpoint, :key, :fingerprint, :id)
    """
)
# What is due may be deleted at any moment. The minute is for this transaction to end in.
_KEEP = text(
    f"""
    WITH kept AS (
        DELETE FROM stray_objects
         WHERE key = :object_key AND due_at > now() + interval '1 minute'
        RETURNING key
    )
    INSERT INTO files (id, tenant_id, purpose, filename, bytes, sha256, expires_at, batch_id)
    SELECT CAST(:id AS uuid), :tenant_id, :purpose, :filename, :bytes, :sha256,
           coalesce(CAST(:expires_at AS timestamptz),
                    now() + make_interval(secs => CAST(:expires_after_s AS float8))),
           CAST(:batch_id AS uuid)
      FROM kept
    RETURNING {_COLUMNS}
    """
)
_GET = text(f"SELECT {_COLUMNS} FROM files WHERE id = :id AND tenant_id = :tenant_id AND {_LIVE}")
# LATERAL … OFFSET 0: one look-up by key for each, however the planner reckons.
_THOSE_THERE = text(
    f"""
    SELECT f.* FROM unnest(CAST(:tenant_ids AS integer[]), CAST(:ids AS uuid[])) AS wanted (tenant_id, id)
     CROSS JOIN LATERAL (
        SELECT {_COLUMNS} FROM files
         WHERE id = wanted.id AND tenant_id = wanted.tenant_id AND {_LIVE} OFFSET 0) f
    """
)
_LIST = """
    SELECT {columns} FROM files
     WHERE tenant_id = :tenant_id AND {live}
       AND (CAST(:after AS uuid) IS NULL OR id {beyond} :after)
       AND (CAST(:purpose AS text) IS NULL OR purpose = :purpose)
     ORDER BY id {order} LIMIT :limit
"""
_LIST_NEWEST = text(_LIST.format(columns=_COLUMNS, live=_LIVE, beyond="<", order="DESC"))
_LIST_OLDEST = text(_LIST.format(columns=_COLUMNS, live=_LIVE, beyond=">", order="ASC"))

_STRAYS = f"""
    INSERT INTO stray_objects (key, due_at)
    SELECT {_KEY}, now() FROM gone
    RETURNING key
"""
_DELETE = text(
    f"""
    WITH gone AS (
        DELETE FROM files WHERE id = :id AND tenant_id = :tenant_id AND {_LIVE} RETURNING id, tenant_id
    )
    {_STRAYS}
    """
)
_DELETE_OUTPUT = text(
    f"""
    WITH gone AS (
        DELETE FROM files
         WHERE id = :id AND tenant_id = :tenant_id AND purpose = 'job_output' AND filename = :filename
        RETURNING id, tenant_id
    )
    {_STRAYS}
    """
)
_EXPIRE = text(
    f"""
    WITH late AS (
        SELECT id FROM files WHERE expires_at <= now()
         ORDER BY expires_at LIMIT :limit FOR UPDATE SKIP LOCKED
    ), gone AS (
        DELETE FROM files f USING late WHERE f.id = late.id RETURNING f.id, f.tenant_id
    )
    {_STRAYS}
    """
)
_DUE = text("SELECT key FROM stray_objects WHERE due_at <= now() ORDER BY due_at LIMIT :limit")
_FORGET = text("DELETE FROM stray_objects WHERE key = ANY (CAST(:keys AS text[]))")


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file whose object is whole in the storage. `expires_at` goes before `expires_after_s`."""

    id: UUID
    tenant_id: int
    purpose: str
    filename: str
    size: int
    sha256: bytes
    expires_at: datetime | None = None
    expires_after_s: float | None = None
    batch_id: UUID | None = None


def object_key(tenant_id: int, file_id: UUID) -> str:
    """Where in the storage a file is."""
    return f"files/{tenant_id}/{file_id.hex}"


def output_name(job_id: UUID) -> str:
    """What the file of a job's output is called. Nobody else's file with its purpose has this name."""
    return f"{format_id('job', job_id)}.json"


def announce(engine: Engine, key: str) -> None:
    """Write down that an object is about to be written."""
    with connect(engine) as connection:
        connection.execute(_ANNOUNCE, {"key": key})


def condemn(engine: Engine, key: str) -> bool:
    """The object may be deleted from now on, and no more be kept. False if it is a file's, or gone."""
    with connect(engine) as connection:
        return connection.execute(_CONDEMN, {"key": key}).one_or_none() is not None


def used(engine: Engine, tenant_id: int) -> int:
    """How much of its quota a tenant's files take."""
    with connect(engine) as connection:
        return int(connection.execute(_USED, {"tenant_id": tenant_id}).scalar_one())


def insert(
    engine: Engine, new: NewFile, idempotency: IdempotencyKey | None = None, quota: int | None = None
) -> Any | Repeated | None:
    """Make the object a file. Returns its row, or what an earlier request with this key made.

    None, and nothing written, if the tenant's files would take more than `quota`. Raises `Unavailable` if
    writing the object took so long that it may be gone.
    """
    parameters: dict[str, Any] = {"tenant_id": new.tenant_id}
    with transaction(engine) as connection:
        connection.execute(_ONE_AT_A_TIME, parameters)
        if idempotency is not None:
            keyed = {
                **parameters,
                "id": new.id,
                "endpoint": idempotency.endpoint,
                "key": idempotency.key,
                "fingerprint": idempotency.fingerprint,
            }
            first = connection.execute(FIRST_ANSWER, keyed).one_or_none()
            if first is not None:
                return Repeated(first.resource_id, same=first.fingerprint == idempotency.fingerprint)
        if quota is not None:
            taken = connection.execute(_USED, parameters).scalar_one()
            if taken + max(new.size, _LEAST) > quota:
                return None
        if idempotency is not None:
            connection.execute(_REMEMBER, keyed)
        return keep(connection, new)


def keep(connection: Connection, new: NewFile) -> Any:
    """Make the object a file, as a part of a transaction. Returns its row. Raises as `insert`."""
    parameters = {
        "id": new.id,
        "object_key": object_key(new.tenant_id, new.id),
        "tenant_id": new.tenant_id,
        "purpose": new.purpose,
        "filename": new.filename,
        "bytes": new.size,
        "sha256": new.sha256,
        "expires_at": new.expires_at,
        "expires_after_s": new.expires_after_s,
        "batch_id": new.batch_id,
    }
    row = connection.execute(_KEEP, parameters).one_or_none()
    if row is None:
        raise Unavailable(f"writing the file took more than {UPLOAD_HOURS} hours")
    return row


def get(engine: Engine, tenant_id: int, file_id: UUID) -> Any | None:
    """The file's row, or None if this tenant has no such file, or not any more."""
    with connect(engine) as connection:
        return connection.execute(_GET, {"id": file_id, "tenant_id": tenant_id}).one_or_none()


def those_there(engine: Engine, wanted: Iterable[tuple[int, UUID]]) -> dict[tuple[int, UUID], Any]:
    """Rows as `get` gives them, by tenant and id, of those that are there."""
    pairs = list(wanted)
    parameters = {"tenant_ids": [tenant for tenant, _ in pairs], "ids": [file_id for _, file_id in pairs]}
    with connect(engine) as connection:
        rows = connection.execute(_THOSE_THERE, parameters).all()
    return {(row.tenant_id, row.id): row for row in rows}


def list_page(
    engine: Engine,
    tenant_id: int,
    limit: int,
    after: UUID | None,
    *,
    oldest_first: bool = False,
    purpose: str | None = None,
) -> Sequence[Any]:
    """The tenant's files; one more than `limit` if there are more."""
    parameters = {"tenant_id": tenant_id, "limit": limit + 1, "after": after, "purpose": purpose}
    with connect(engine) as connection:
        return connection.execute(_LIST_OLDEST if oldest_first else _LIST_NEWEST, parameters).all()


def delete(engine: Engine, tenant_id: int, file_id: UUID) -> str | None:
    """Delete the file. Returns its object's key, which is stray now; None if there is no such file."""
    with connect(engine) as connection:
        key = connection.execute(_DELETE, {"id": file_id, "tenant_id": tenant_id}).scalar_one_or_none()
        return None if key is None else str(key)


def delete_output(connection: Connection, tenant_id: int, file_id: UUID, job_id: UUID) -> str | None:
    """Delete the file if it is this job's output. Returns its object's key, which is stray now."""
    parameters = {"id": file_id, "tenant_id": tenant_id, "filename": output_name(job_id)}
    key = connection.execute(_DELETE_OUTPUT, parameters).scalar_one_or_none()
    return None if key is None else str(key)


def expire(engine: Engine, limit: int = 1000) -> int:
    """Delete files past their `expires_at`; their objects are stray from now on. Returns how many."""
    with connect(engine) as connection:
        return len(connection.execute(_EXPIRE, {"limit": limit}).all())


def due_strays(engine: Engine, limit: int = 1000) -> list[str]:
    """Keys of objects that may be deleted."""
    with connect(engine) as connection:
        return list(connection.execute(_DUE, {"limit": limit}).scalars())


def forget_strays(engine: Engine, keys: Sequence[str]) -> None:
    """These objects are gone."""
    with connect(engine) as connection:
        connection.execute(_FORGET, {"keys": list(keys)})
