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

from app.observability.logs import get_logger

Result = TypeVar("Result")

CONNECT_TIMEOUT_S = 0.3
SOCKET_TIMEOUT_S = 1.0
ASK_EVERY_S = 1.0
PROBE_MS = 1000
_PROBE = "headrace:probe"

_log = get_logger()


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
    """Runs calls to Redis that may fail. After a failure none is made until Redis has taken a write again.

    It is asked beside, about once a second: a server that hangs costs each of them a full timeout, and
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
        except (redis.RedisError, OperationalError, OSError) as error:
            if self._away_in != os.getpid():
                self._away_in = os.getpid()
                _log.warning("redis.away", reason=f"{type(error).__name__}: {error}"[:200])
                self._beside(partial(_until_back, weakref.ref(self), self._pause))
            return None

    def reachable(self) -> bool:
        """Whether Redis answers now, away or not, and takes a write: one that is full or a replica takes
        none, and answers every ping.
        """
        try:
            return bool(self.client.set(_PROBE, 1, px=PROBE_MS))
        except (redis.RedisError, OSError):
            return False

    def back(self) -> bool:
        """Ask again from now on, if Redis answers."""
        if self.reachable():
            if self._away_in:
                _log.info("redis.back")
            self._away_in = 0
            return True
        return False


def _until_back(whose: "weakref.ref[BestEffort]", pause: Callable[[float], object]) -> None:
    # Nobody waits for what nobody will ask.
    while (owner := whose()) is not None and not owner.back():
        del owner
        pause(ASK_EVERY_S)
