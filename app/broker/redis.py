"""Redis at best effort: short timeouts, no retries, and a breaker, so that its absence delays few calls."""

import os
import threading
import time
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import redis
from kombu.exceptions import OperationalError
from pydantic import SecretStr
from redis.backoff import NoBackoff
from redis.retry import Retry

Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 0.3
SOCKET_TIMEOUT_S = 1.0
PING_EVERY_S = 1.0


def make_client(url: SecretStr, **options: Any) -> "redis.Redis":
    """A client that gives up quickly instead of retrying."""
    defaults: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": SOCKET_TIMEOUT_S,
        "retry": Retry(NoBackoff(), 0),
    }
    return redis.Redis.from_url(url.get_secret_value(), **{**defaults, **options})


def _beside(call: Callable[[], None]) -> None:
    threading.Thread(target=call, name="redis away", daemon=True).start()


class BestEffort:
    """Runs calls to Redis that may fail. After a failure none is made until Redis has answered a ping again.

    The pings are made beside, about once a second: a server that hangs costs each of them a full timeout, and
    no call waits to find out.
    """

    def __init__(
        self,
        client: "redis.Redis",
        beside: Callable[[Callable[[], None]], None] = _beside,
        pause: Callable[[float], object] = time.sleep,
    ) -> None:
        self.client = client
        self._beside = beside
        self._pause = pause
        self._away_in = 0
        """The process that knows it to be away: one that is forked has to find out by itself."""

    def attempt(self, call: Callable[["redis.Redis"], Result]) -> Result | None:
        """The call's result, or None if Redis did not answer or was not asked."""
        if self._away_in == os.getpid():
            return None
        try:
            return call(self.client)
        except (redis.RedisError, OperationalError, OSError):
            if self._away_in != os.getpid():
                self._away_in = os.getpid()
                self._beside(partial(_until_back, weakref.ref(self), self._pause))
            return None

    def reachable(self) -> bool:
        """Whether Redis answers a ping now, away or not."""
        try:
            return bool(self.client.ping())
        except (redis.RedisError, OSError):
            return False

    def back(self) -> bool:
        """Ask again from now on, if Redis answers."""
        if self.reachable():
            self._away_in = 0
            return True
        return False


def _until_back(whose: "weakref.ref[BestEffort]", pause: Callable[[float], object]) -> None:
    # Nobody waits for what nobody will ask.
    while (owner := whose()) is not None and not owner.back():
        del owner
        pause(PING_EVERY_S)
