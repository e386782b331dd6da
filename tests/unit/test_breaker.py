"""Redis at best effort: its absence costs one call anything, and its return is noticed."""

from collections.abc import Callable
from typing import Any

import redis

from app.broker.redis import ASK_EVERY_S, BestEffort


class Server:
    """Answers or hangs up, and counts who asks."""

    def __init__(self) -> None:
        self.away, self.asked, self.probes = False, 0, 0
        self.beside: list[Callable[[], None]] = []
        self.pauses: list[float] = []
        client: Any = self
        self.breaker = BestEffort(client, self.beside.append, self.wait)

    def set(self, _name: str, _value: int, px: int) -> bool:
        self.probes += 1
        if self.away:
            raise redis.TimeoutError
        return True

    def wait(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.away = len(self.pauses) < 120

    def ask(self) -> int | None:
        def call(_: object) -> int:
            self.asked += 1
            if self.away:
                raise redis.ConnectionError
            return 1

        return self.breaker.attempt(call)


def test_one_call_finds_that_redis_is_away_and_none_waits_until_it_is_back() -> None:
    server = Server()
    assert server.ask() == 1
    server.away, server.asked = True, 0
    assert [server.ask() for _ in range(1000)] == [None] * 1000
    assert (server.asked, len(server.beside)) == (1, 1)
    server.beside[0]()
    assert server.pauses == [ASK_EVERY_S] * 120
    assert server.probes == 121
    assert (server.ask(), server.ask()) == (1, 1)
    assert len(server.beside) == 1


def test_calls_that_fail_together_are_followed_by_one_question() -> None:
    server = Server()
    seen: list[int | None] = []

    def trying(_: object) -> None:
        # Others come, and fail, while this one waits for its answer.
        server.away = True
        seen.append(server.ask())
        raise redis.TimeoutError

    assert server.breaker.attempt(trying) is None
    assert (seen, len(server.beside)) == ([None], 1)


def test_a_forked_process_finds_out_by_itself(monkeypatch: Any) -> None:
    server = Server()
    server.away = True
    assert server.ask() is None
    monkeypatch.setattr("app.broker.redis.os.getpid", lambda: -1)
    server.away = False
    assert server.ask() == 1
