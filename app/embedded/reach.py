"""Whether Postgres and Redis can be reached, answered in one line and without a secret."""

from urllib.parse import urlsplit

import psycopg
import redis

from app.embedded.errors import StackError

_TIMEOUT_S = 5


def postgres(url: str) -> None:
    """Raise `StackError` unless a statement can be run."""
    try:
        with psycopg.connect(url, connect_timeout=_TIMEOUT_S) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error as error:
        raise StackError(f"Postgres {_place(url)} is out of reach: {_reason(error)}") from error


def valkey(url: str) -> None:
    """Raise `StackError` unless it answers."""
    try:
        with redis.Redis.from_url(
            url, socket_connect_timeout=_TIMEOUT_S, socket_timeout=_TIMEOUT_S
        ) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        raise StackError(f"Redis {_place(url)} is out of reach: {_reason(error)}") from error


def _place(url: str) -> str:
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"at {host}{parts.path}" if host else "of the given URL"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0]
