"""API keys: `hr_<keyid>_<secret>`. The id finds the row; of the secret only a keyed hash is stored."""

import hashlib
import hmac
import secrets
from datetime import datetime

from app.db import keys
from app.db.engine import Engine
from app.domain.scopes import SCOPES
from app.errors import Conflict, Invalid, NotFound

_ALPHABET = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"


def parse_key(text: str) -> tuple[str, str] | None:
    """(key id, secret), or None if the text does not look like a key."""
    parts = text.split("_")
    if len(parts) != 3 or parts[0] != "hr" or not parts[1] or not parts[2]:
        return None
    if len(text) > 200 or not text.isascii():
        return None
    return parts[1], parts[2]


def hash_secret(pepper: str, secret: str) -> bytes:
    """HMAC-SHA256. A secret has 238 bits, so a slow hash would add nothing but latency."""
    return hmac.new(pepper.encode(), secret.encode(), hashlib.sha256).digest()


def issue_key(
    engine: Engine,
    pepper: str,
    tenant_id: int,
    *,
    name: str = "",
    scopes: tuple[str, ...] = SCOPES,
    expires_at: datetime | None = None,
    requests_per_minute: int | None = None,
    actor: str,
) -> str:
    """Store a new key and return it: the only time it is seen. Raises `Invalid` for an unknown scope."""
    unknown = sorted(set(scopes) - set(SCOPES))
    if unknown:
        raise Invalid("unknown_scope", f"unknown scope {', '.join(unknown)}; scopes are {' '.join(SCOPES)}")
    key_id, secret = _random(12), _random(40)
    keys.insert(
        engine,
        key_id=key_id,
        tenant_id=tenant_id,
        name=name,
        secret_hash=hash_secret(pepper, secret),
        scopes=list(scopes),
        expires_at=expires_at,
        requests_per_minute=requests_per_minute,
        actor=actor,
    )
    return f"hr_{key_id}_{secret}"


def rotate_key(
    engine: Engine, pepper: str, key_id: str, grace_s: int, expires_at: datetime | None = None, *, actor: str
) -> str:
    """A new key that may do what `key_id` may, which ends in `grace_s` seconds.

    Without `expires_at` the new one has the lifetime of the old one. Raises `NotFound`, and `Conflict` if
    there is no `expires_at` and the old one was rotated before: it has been short-lived since.
    """
    new_id, secret = _random(12), _random(40)
    successor = keys.rotate(
        engine,
        key_id,
        new_id=new_id,
        secret_hash=hash_secret(pepper, secret),
        grace_s=grace_s,
        expires_at=expires_at,
        actor=actor,
    )
    if successor is None:
        raise NotFound("key_not_found", "there is no live key with this id")
    if successor != new_id:
        raise Conflict(
            "key_rotated",
            f"the key {key_id} was rotated before: rotate its successor {successor}, or say when the new one"
            " is to end (`expires_at`, `--expires-days`)",
        )
    return f"hr_{new_id}_{secret}"


def verify(engine: Engine, pepper: str, text: str) -> keys.KeyRow | None:
    """The live key that this text is, or None. Compares in constant time."""
    parsed = parse_key(text)
    row = keys.find(engine, parsed[0]) if parsed else None
    if parsed is None or row is None or not row.live:
        return None
    return row if hmac.compare_digest(row.secret_hash, hash_secret(pepper, parsed[1])) else None


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
