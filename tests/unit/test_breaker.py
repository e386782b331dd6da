"""Redis at best effort: its absence costs few calls anything, and its return is noticed."""

import redis

from app.broker.redis import BREAK_S, LONGEST_BREAK_S, BestEffort


class Server:
    """Answers or hangs up, and counts who asks."""

    def __init__(self) -> None:
        self.now, self.away, self.asked = 0.0, False, 0
        self.breaker = BestEffort(redis.Redis(), lambda: self.now)

    def ask(self) -> int | None:
        def call(_: object) -> int:
            self.asked += 1
            if self.away:
                raise redis.ConnectionError
            return 1

        return self.breaker.attempt(call)


def test_in_two_minutes_without_redis_few_calls_ask_and_the_first_after_a_break_finds_it() -> None:
    server = Server()
    assert server.ask() == 1
    server.away, server.asked = True, 0
    for tick in range(12_000):
        server.now = tick / 100
        assert server.ask() is None
    assert server.asked <= 2 + 120 / LONGEST_BREAK_S + 2
    server.away, server.now = False, server.now + LONGEST_BREAK_S
    assert (server.ask(), server.ask()) == (1, 1)


def test_one_call_tries_for_all() -> None:
    server = Server()
    server.away = True
    server.ask()
    server.now += BREAK_S
    seen: list[int | None] = []

    def trying(_: object) -> None:
        # Others come while this one waits for its answer.
        seen.append(server.ask())
        raise redis.TimeoutError

    server.asked = 0
    server.breaker.attempt(trying)
    assert (seen, server.asked) == ([None], 0)
