"""Wake whoever waits for a job: one listener a process, on Redis pub/sub, and no promise without it.

A wake-up is a hint to look at Postgres again, and may be lost. So nobody sleeps long on one: with Redis
away, waiters are let go about once a second; with Redis there, every few seconds. The listener
is a daemon thread that starts with the first waiter, hence after a server's fork.
"""

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from random import random
from uuid import UUID

import redis
from pydantic import SecretStr

from app.broker.channels import WAKE_CHANNEL, decode_ids, encode_ids
from app.broker.redis import BestEffort, make_client
from app.errors import Unavailable
from app.observability.logs import get_logger

HEARING_POLL_S = 5.0
"""How long a waiter sleeps at most while the listener hears: covers a message that Redis lost."""
DEAF_POLL_S = 0.5
"""The same while Redis is away; grows with the number of waiters, to spare Postgres."""
_PING_S = 5.0
_LONGEST_BACKOFF_S = 2.0

_log = get_logger()


class TooManyWaiters(Unavailable):
    """This process holds as many requests open as it may."""

    code = "too_many_waiters"


class Waiter:
    """One request that waits for news of its jobs. Made by `Wakeups.watch`."""

    def __init__(self, longest: Callable[[], float]) -> None:
        self._event = threading.Event()
        self._longest = longest
        self._news: set[UUID] = set()

    def wait(self, timeout_s: float) -> bool:
        """Sleep until there may be news, `timeout_s` at most and often less. True if news was heard.

        News that came since the last call counts, so read the database after each return.
        """
        heard = self._event.wait(max(0.0, min(timeout_s, self._longest())))
        self._event.clear()
        return heard

    def news(self) -> set[UUID]:
        """The jobs that were spoken of since the last call."""
        told = set()
        while self._news:
            told.add(self._news.pop())  # one by one: more may come meanwhile, from the listener's thread
        return told

    def wake(self, job_id: UUID) -> None:
        """Let the waiter look at this job again."""
        self._news.add(job_id)
        self._event.set()


class Wakeups:
    """The waiters of this process and the listener that wakes them. Safe to share among threads."""

    def __init__(self, redis_url: SecretStr, *, max_waiters: int = 2000) -> None:
        self._url = redis_url
        self._max_waiters = max_waiters
        self._waiters: dict[UUID, set[Waiter]] = {}
        self._count = 0
        self._lock = threading.Lock()
        self._listener: threading.Thread | None = None
        self._pid = 0
        self._closing = threading.Event()
        self._hearing = threading.Event()
        self._speaker = BestEffort(make_client(redis_url))

    @property
    def hearing(self) -> bool:
        """Whether the listener is subscribed now."""
        return self._hearing.is_set()

    @property
    def closing(self) -> bool:
        """Whether the process is about to end: waits are over at once."""
        return self._closing.is_set()

    @property
    def waiting(self) -> int:
        """How many waiters there are."""
        return self._count

    @contextmanager
    def watch(self, *job_ids: UUID) -> Iterator[Waiter]:
        """One waiter for these jobs. Enter before reading them, or an end may fall between.

        Raises `TooManyWaiters` beyond `max_waiters`.
        """
        waiter = Waiter(self._longest_sleep)
        with self._lock:
            if self._count >= self._max_waiters:
                raise TooManyWaiters("this process holds as many requests open as it may")
            self._count += 1
            for job_id in job_ids:
                self._waiters.setdefault(job_id, set()).add(waiter)
        try:
            self._start()
            yield waiter
        finally:
            with self._lock:
                self._count -= 1
                for job_id in job_ids:
                    mine = self._waiters[job_id]
                    mine.discard(waiter)
                    if not mine:
                        del self._waiters[job_id]

    def announce(self, ids: Iterable[UUID]) -> None:
        """Say that these jobs changed, here at once and to other processes through Redis if it is there."""
        ids = list(ids)
        for job_id in ids:
            self._wake(job_id)
        self._speaker.attempt(lambda client: client.publish(WAKE_CHANNEL, encode_ids(ids)))

    def close(self) -> None:
        """Wake everybody for good and end the listener."""
        self._closing.set()
        self._wake_all()

    def _longest_sleep(self) -> float:
        if self._closing.is_set():
            return 0.0
        if self._hearing.is_set():
            # Those who came together must not all ask Postgres again at one moment.
            return HEARING_POLL_S * (0.5 + 0.5 * random())  # noqa: S311
        return (DEAF_POLL_S + self._count / 1000) * (0.8 + 0.4 * random())  # noqa: S311

    def _start(self) -> None:
        if self._listener is not None and self._pid == os.getpid():
            return
        with self._lock:
            if self._listener is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._hearing.clear()
                self._listener = threading.Thread(target=self._listen, name="wakeups", daemon=True)
                self._listener.start()

    def _listen(self) -> None:
        failures = 0
        while not self._closing.is_set():
            try:
                self._hear()
            except Exception as error:  # a listener that dies would make every waiter poll for ever
                failures = 0 if self._hearing.is_set() else failures
                if failures == 0:
                    _log.warning("wakeups.deaf", exc_info=error)
                failures += 1
            self._hearing.clear()
            pause = min(_LONGEST_BACKOFF_S, 0.1 * 2 ** min(failures, 10))
            self._closing.wait(pause * (0.5 + random()))  # noqa: S311

    def _hear(self) -> None:
        client = make_client(self._url, socket_keepalive=True)
        try:
            with client.pubsub() as channel:
                channel.subscribe(WAKE_CHANNEL)
                pinged = heard = time.monotonic()
                while not self._closing.is_set():
                    message = channel.get_message(timeout=1.0)
                    now = time.monotonic()
                    if message is not None:
                        heard = now
                        self._receive(message)
                    elif now - heard > 2 * _PING_S:
                        raise redis.ConnectionError("the connection is open but dead")
                    if now - pinged > _PING_S:
                        channel.ping()
                        pinged = now
        finally:
            client.close()

    def _receive(self, message: dict[str, object]) -> None:
        if message["type"] == "subscribe":
            self._hearing.set()
            _log.debug("wakeups.hearing")
            self._wake_all()  # what was said while nobody listened is lost: look again
        elif message["type"] == "message":
            data = message["data"]
            if isinstance(data, bytes | str):
                for job_id in decode_ids(data):
                    self._wake(job_id)

    def _wake(self, job_id: UUID) -> None:
        with self._lock:
            for waiter in self._waiters.get(job_id, ()):
                waiter.wake(job_id)

    def _wake_all(self) -> None:
        with self._lock:
            for job_id, waiters in self._waiters.items():
                for waiter in waiters:
                    waiter.wake(job_id)
