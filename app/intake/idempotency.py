"""Idempotency-Key: what makes two requests the same one."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from app.db.accept import LOCK_NOT_AVAILABLE
from app.db.accept import IdempotencyKey as Once
from app.db.engine import sqlstate
from app.errors import Conflict, Invalid, Malformed, Unavailable
from app.intake.validate import canonical

__all__ = ["MAX_KEY", "Once", "in_flight", "once", "read_key", "reused"]

MAX_KEY = 255


def read_key(header: str | None) -> str | None:
    """The key, if there is one. Raises `Malformed` for one that is none."""
    if header is None or (0 < len(header) <= MAX_KEY and header.isascii() and header.isprintable()):
        return header
    raise Malformed(
        "invalid_idempotency_key", f"Idempotency-Key must be 1 to {MAX_KEY} printable ASCII characters"
    )


def once(header: str | None, endpoint: str, body: Any) -> Once | None:
    """The key with the body's fingerprint, or None without a key. Bodies of equal JSON are the same.

    Raises `Malformed` for a key that is none.
    """
    key = read_key(header)
    if key is None:
        return None
    return Once(endpoint, key, hashlib.sha256(canonical(body)).digest())


def reused() -> Invalid:
    """The key was used before, for something else."""
    return Invalid("idempotency_key_reused", "this Idempotency-Key was used with another body")


@contextmanager
def in_flight(once: Once | None) -> Iterator[None]:
    """Around a write with this key: raises `Conflict` if its first request is still being committed."""
    try:
        yield
    except Unavailable as error:
        if once is not None and sqlstate(error) == LOCK_NOT_AVAILABLE:
            raise Conflict(
                "idempotency_in_flight", "the first request with this key has not ended yet"
            ) from error
        raise
