"""Redis at best effort: short timeouts, no retries, and a breaker, so that its absence delays nobody."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import redis
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 0.3
SOCKET_TIMEOUT_S = 1.0
BREAK_S = 1.0
LONGEST_BREAK_S = 8.0


def make_client(url: SecretStr, **options: Any) -> "redis.Redis":
    """A client that gives up quickly instead of retrying."""
    defaults: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis.from_url(url.get_secret_value(), **{**defaults, **options})


class BestEffort:
    """Runs calls to Redis that may fail. After a failure the next ones are skipped for `BREAK_S` seconds.

    Then one call tries for all, and while that fails the breaks double, up to `LONGEST_BREAK_S`: a server
    that hangs costs a full timeout each time, which one call in many pays.
    """

    def __init__(self, client: "redis.Redis", clock: Callable[[], float] = time.monotonic) -> None:
        self.client = client
        self._clock = clock
        self._open_until = 0.0
        self._break_s = 0.0

    def attempt(self, call: Callable[["redis.Redis"], Result]) -> Result | None:
        """The call's result, or None if Redis did not answer or was not asked."""
        now = self._clock()
        if now < self._open_until:
            return None
        tries = self._break_s > 0
        if tries:
            self._open_until = now + CONNECT_TIMEOUT_S + SOCKET_TIMEOUT_S
        try:
            result = call(self.client)
        except (redis.RedisError, OperationalError, OSError):
            self._failed(longer=tries)
            return None
        self._works()
        return result

    def reachable(self) -> bool:
        """Whether Redis answers a ping now, breaker or not."""
        try:
            answers = bool(self.client.ping())
        except (redis.RedisError, OSError):
            self._failed()
            return False
        self._works()
        return answers

    def _failed(self, *, longer: bool = False) -> None:
        if longer:
            self._break_s = min(2 * self._break_s, LONGEST_BREAK_S)
        else:
            self._break_s = self._break_s or BREAK_S
        self._open_until = self._clock() + self._break_s

    def _works(self) -> None:
        self._break_s = self._open_until = 0.0
