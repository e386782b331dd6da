"""From an `Authorization` header to who is asking."""

import contextlib
import hmac
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from app.db import keys
from app.db.engine import Engine
from app.db.scope import on_behalf_of_operators
from app.domain.limits import TenantLimits
from app.domain.scopes import Scope
from app.errors import Forbidden, Unauthenticated, Unavailable
from app.intake.cache import TtlCache
from app.intake.keys import hash_secret, parse_key

_CACHED_KEYS = 16_384
"""With fewer places than keys in use, each request would ask Postgres for its key, and note its use."""
_NOTE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True)
class Principal:
    """A tenant's live key, and what it may do."""

    key_id: str
    tenant_id: int
    tenant: str
    scopes: frozenset[str]
    limits: TenantLimits = field(default_factory=TenantLimits)
    weight: int = 1

    def require(self, scope: Scope) -> None:
        """Raise `Forbidden` unless the key has the scope."""
        if scope not in self.scopes:
            raise Forbidden("missing_scope", f"this key lacks the scope {scope}")


class Authenticator:
    """Checks keys against Postgres, remembering each for a moment; a revoked one works for that long."""

    def __init__(self, engine: Engine, pepper: str, ttl_s: float, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._pepper = pepper
        self._cache: TtlCache[str, tuple[bytes, Principal]] = TtlCache(_CACHED_KEYS, ttl_s, clock)
        self._noted: TtlCache[str, bool] = TtlCache(_CACHED_KEYS, _NOTE_EVERY_S, clock)

    def authenticate(self, header: str | None) -> Principal:
        """Who sent this header. Raises `Unauthenticated`; the reason is the same for every wrong key."""
        scheme, _, text = (header or "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthenticated("missing_api_key", "send your API key as `Authorization: Bearer hr_…`")
        parsed = parse_key(text.strip())
        if parsed is None:
            raise _wrong()
        key_id, secret = parsed
        known = self._cache.get(key_id, lambda: self._load(key_id))
        if known is None or not hmac.compare_digest(known[0], hash_secret(self._pepper, secret)):
            raise _wrong()
        self._note_use(key_id)
        return known[1]

    def _note_use(self, key_id: str) -> None:
        """Once a minute for each key, beside the request: nobody waits for it, and it may fail."""
        self._noted.get(key_id, lambda: self._start_note(key_id))

    def _start_note(self, key_id: str) -> bool:
        threading.Thread(target=self._write_note, args=(key_id,), daemon=True).start()
        return True

    def _write_note(self, key_id: str) -> None:
        with contextlib.suppress(Unavailable), on_behalf_of_operators():
            keys.note_use(self._engine, key_id)

    def _load(self, key_id: str) -> tuple[bytes, Principal] | None:
        if not key_id.isalnum():
            return None
        with on_behalf_of_operators():
            row = keys.find(self._engine, key_id)
        if row is None or not row.live:
            return None
        return row.secret_hash, Principal(
            row.id,
            row.tenant_id,
            row.tenant,
            frozenset(row.scopes),
            row.limits.of_key(row.requests_per_minute),
            row.weight,
        )


def _wrong() -> Unauthenticated:
    return Unauthenticated("invalid_api_key", "this API key is unknown, revoked or expired")
