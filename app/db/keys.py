"""The SQL of tenants and API keys. Only keyed hashes are stored; a secret is seen once, at creation."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from app.db import audit
from app.db.engine import connect, transaction
from app.domain.limits import TenantLimits

_INSERT = text(
    """
    INSERT INTO api_keys (id, tenant_id, name, secret_hash, scopes, expires_at, requests_per_minute)
    VALUES (:id, :tenant_id, :name, :secret_hash, :scopes, CAST(:expires_at AS timestamptz),
            CAST(:requests_per_minute AS integer))
    """
)
_SHOWN = """
    SELECT k.id, k.tenant_id, t.name AS tenant, k.name, k.secret_hash, k.scopes,
           k.created_at, k.expires_at, k.revoked_at, k.last_used_at, k.requests_per_minute,
           t.requests_per_minute AS tenant_requests, t.key_requests_per_minute, t.queued_jobs,
           t.in_flight_jobs, t.stored_bytes, t.weight,
           k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
               AND t.disabled_at IS NULL AS live
      FROM api_keys k JOIN tenants t ON t.id = k.tenant_id"""
_FIND = text(f"{_SHOWN} WHERE k.id = :id")
_LIST = text(f"{_SHOWN} ORDER BY k.created_at DESC, k.id DESC")
_PAGE = text(
    f"""{_SHOWN}
     WHERE k.tenant_id = :tenant_id
       AND (CAST(:after AS text) IS NULL
            OR (k.created_at, k.id) < (SELECT created_at, id FROM api_keys WHERE id = :after))
     ORDER BY k.created_at DESC, k.id DESC
     LIMIT :limit
    """
)
_LOCK_LIVE = text(
    """
    SELECT FROM api_keys k JOIN tenants t ON t.id = k.tenant_id
     WHERE k.id = :id AND t.disabled_at IS NULL
       AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
       FOR UPDATE OF k
    """
)
# The old one lives on beside the new one, but no longer than it would have anyway. The new one lives as long
# as the old one was to live, unless its end is given; Python knows no later year.
_ROTATE = text(
    """
    WITH old AS (
        SELECT * FROM api_keys WHERE id = :id
    ), ending AS (
        UPDATE api_keys k
           SET expires_at = least(old.expires_at, now() + make_interval(secs => :grace_s))
          FROM old WHERE k.id = old.id
    )
    INSERT INTO api_keys (id, tenant_id, name, secret_hash, scopes, requests_per_minute, expires_at)
    SELECT :new_id, tenant_id, name, :secret_hash, scopes, requests_per_minute,
           CASE WHEN CAST(:expires_at AS timestamptz) IS NOT NULL THEN :expires_at
                WHEN expires_at IS NOT NULL
                THEN least(now() + (expires_at - created_at), timestamptz '9999-12-31 00:00:00Z') END
      FROM old
    RETURNING expires_at
    """
)
_REVOKE = text("UPDATE api_keys SET revoked_at = now() WHERE id = :id AND revoked_at IS NULL RETURNING id")

_NOTE_USE = text(
    """
    UPDATE api_keys SET last_used_at = now()
     WHERE id = :id AND (last_used_at IS NULL OR last_used_at < now() - interval '1 minute')
    """
)
_OTHER_LIMITS = ("key_requests_per_minute", "queued_jobs", "in_flight_jobs", "stored_bytes")


@dataclass(frozen=True, slots=True)
class KeyRow:
    """One key as stored. `live`: neither revoked nor expired, by the database's clock."""

    id: str
    tenant_id: int
    tenant: str
    name: str
    secret_hash: bytes
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    requests_per_minute: int | None
    live: bool
    limits: TenantLimits
    weight: int
    """Of its tenant."""


def insert(
    engine: Engine,
    *,
    key_id: str,
    tenant_id: int,
    name: str,
    secret_hash: bytes,
    scopes: list[str],
    expires_at: datetime | None,
    requests_per_minute: int | None = None,
    actor: str,
) -> None:
    """Store a new key, and the line that tells who made it."""
    with transaction(engine) as connection:
        connection.execute(
            _INSERT,
            {
                "id": key_id,
                "tenant_id": tenant_id,
                "name": name,
                "secret_hash": secret_hash,
                "scopes": scopes,
                "expires_at": expires_at,
                "requests_per_minute": requests_per_minute,
            },
        )
        audit.write(
            connection, actor, "keys.create", key_id, tenant=_name(connection, tenant_id), scopes=scopes
        )


def find(engine: Engine, key_id: str) -> KeyRow | None:
    """The key with this id, live or not."""
    with connect(engine) as connection:
        row = connection.execute(_FIND, {"id": key_id}).one_or_none()
    return _row(row) if row else None


def list_all(engine: Engine) -> list[KeyRow]:
    """Every key, newest first."""
    with connect(engine) as connection:
        return [_row(row) for row in connection.execute(_LIST)]


def list_page(engine: Engine, tenant_id: int, limit: int, after: str | None) -> list[KeyRow]:
    """A tenant's keys, newest first, made before the key `after`; one more than `limit` if there are more."""
    asked = {"tenant_id": tenant_id, "after": after, "limit": limit + 1}
    with connect(engine) as connection:
        return [_row(row) for row in connection.execute(_PAGE, asked)]


def rotate(
    engine: Engine,
    key_id: str,
    *,
    new_id: str,
    secret_hash: bytes,
    grace_s: int,
    expires_at: datetime | None,
    actor: str,
) -> str | None:
    """Store a new key like the live one `key_id`, which ends in `grace_s`. Returns the id of the successor:
    None if there is no such key; not `new_id` if it had this one already, and nothing was done.

    The new one ends at `expires_at`; None: after as long as the old one was made for, or never as it. What it
    was made for is not known any more once it was rotated, so then the end has to be given.
    """
    asked = {"id": key_id, "new_id": new_id, "secret_hash": secret_hash, "grace_s": grace_s}
    with transaction(engine) as connection:
        # A statement of its own, so that the next ones see what whoever held the lock before has done.
        if connection.execute(_LOCK_LIVE, {"id": key_id}).one_or_none() is None:
            return None
        rotated = audit.last(connection, "keys.rotate", key_id)
        if rotated and expires_at is None:
            return str(rotated["new"])
        made = connection.execute(_ROTATE, {**asked, "expires_at": expires_at}).one()
        details = {"new": new_id, "grace_s": grace_s, "new_expires_at": made.expires_at}
        audit.write(connection, actor, "keys.rotate", key_id, **details)
    return new_id


def revoke(engine: Engine, key_id: str, *, actor: str) -> bool:
    """Revoke now. False if there is no such key, or it is revoked already."""
    with transaction(engine) as connection:
        done = connection.execute(_REVOKE, {"id": key_id}).one_or_none() is not None
        if done:
            audit.write(connection, actor, "keys.revoke", key_id)
    return done


def note_use(engine: Engine, key_id: str) -> None:
    """It is used now; written at most once a minute, whoever says so."""
    with connect(engine) as connection:
        connection.execute(_NOTE_USE, {"id": key_id})


def _name(connection: Connection, tenant_id: int) -> str:
    found = connection.execute(text("SELECT name FROM tenants WHERE id = :id"), {"id": tenant_id})
    return str(found.scalar_one())


def _row(row: Any) -> KeyRow:
    values = dict(row._mapping)
    limits = TenantLimits(values.pop("tenant_requests"), *(values.pop(name) for name in _OTHER_LIMITS))
    return KeyRow(**{**values, "scopes": tuple(row.scopes), "limits": limits})
