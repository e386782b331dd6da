"""Clients that never give up: each request has a key, and is repeated until there is a clear answer."""

import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import requests

from tests.support.ledger import Ledger
from tests.support.stacks import RunningStack

_AGAIN_S = 0.1
_INVALID_EVERY = 20
_CLEAR = (200, 202)
_LATER = (409, 429, 502, 503, 504)

MakeInput = Callable[[int, random.Random], dict[str, Any]]


@dataclass(frozen=True)
class Answer:
    """The first answer to a request: when it was asked for, how long it took, what it said (0: nothing), and
    the code of a problem.
    """

    at: float
    seconds: float
    status: int
    code: str | None


def quick(number: int, chance: random.Random) -> dict[str, Any]:
    """An input of `echo` that takes up to 20 ms."""
    return {"n": number, "sleep_ms": chance.randrange(20)}


def slow(number: int, chance: random.Random) -> dict[str, Any]:
    """An input of `echo` that takes about 100 ms: two workers are always busy, and there is a queue."""
    return {"n": number, "sleep_ms": 50 + chance.randrange(100)}


class Load:
    """`count` jobs by four clients, about `pace_s` apart. Writes down what was promised and refused."""

    def __init__(
        self,
        stack: RunningStack,
        ledger: Ledger,
        run: str,
        *,
        seed: int,
        hook: str,
        count: int = 60,
        pace_s: float = 0.03,
        clients: int = 4,
        model: str = "echo",
        make_input: MakeInput = quick,
        policy: dict[str, Any] | None = None,
    ) -> None:
        self._stack, self._ledger, self._run = stack, ledger, run
        self._hook = hook
        self._path = "/" + hook.partition("//")[2].partition("/")[2]
        self._url, self._key = stack.url, stack.api_key
        self._seed, self._count, self._pace_s = seed, count, pace_s
        self._model, self._make_input, self._policy = model, make_input, policy
        self._stopped = threading.Event()
        self.answers: list[Answer] = []
        self._threads = [
            threading.Thread(target=self._client, args=(number, clients), daemon=True)
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind:
            self._stopped.set()
        self.join()

    def join(self, deadline_s: float = 120) -> None:
        """Wait until every request has its answer."""
        end = time.monotonic() + deadline_s
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
            if thread.is_alive():
                self._stopped.set()
                raise AssertionError("clients still have no clear answer")

    def stop(self) -> None:
        """No new requests."""
        self._stopped.set()

    def p99_ms(self, since: float, until: float) -> float:
        """The 99th percentile of the first answers to requests of this time, in milliseconds."""
        took = [answer.seconds * 1000 for answer in self.answers if since <= answer.at < until]
        return statistics.quantiles(took, n=100)[98] if len(took) > 1 else sum(took)

    def _client(self, first: int, step: int) -> None:
        chance = random.Random(f"{self._seed}/{first}")
        with requests.Session() as session:
            session.trust_env = False
            session.headers["Authorization"] = f"Bearer {self._key}"
            for number in range(first, self._count, step):
                if self._stopped.wait(self._pace_s * step * (0.5 + chance.random())):
                    return
                self._request(session, number, self._make_input(number, chance))

    def _request(self, session: requests.Session, number: int, value: dict[str, Any]) -> None:
        name, invalid = f"{self._run}-{number}", number % _INVALID_EVERY == _INVALID_EVERY - 1
        body: dict[str, Any] = {
            "model": self._model,
            "input": "not what the model takes" if invalid else value,
            "webhook": self._hook,
            **({"policy": self._policy} if self._policy else {}),
            "metadata": {"run": self._run, "request": name},
        }
        began, first = time.monotonic(), True
        while True:
            status, answer = _post(session, f"{self._url}/v1/jobs", body, name)
            if first:
                took = time.monotonic() - began
                self.answers.append(Answer(began, took, status, answer.get("code")))
                first = False
            if status in _CLEAR and not invalid:
                expected = expected_of(value)
                self._ledger.accepted(answer["id"], self._path, sent_at=began, **expected)
                return
            if status in (400, 422) and invalid:
                self._ledger.refused(name)
                return
            if status and status not in _LATER:
                self._ledger.wrong(f"{name} was answered {status}: {answer}")
                return
            if self._stopped.wait(_AGAIN_S) and status:
                return


def expected_of(value: dict[str, Any]) -> dict[str, Any]:
    """What a GET shows of a job with this input: a success that gives it back, unless it is poison."""
    return {"status": "failed"} if value.get("how") else {"status": "succeeded", "output": value}


def _post(session: requests.Session, url: str, body: dict[str, Any], key: str) -> tuple[int, dict[str, Any]]:
    try:
        answer = session.post(url, json=body, headers={"Idempotency-Key": key}, timeout=20)
        return answer.status_code, answer.json()
    except (requests.RequestException, ValueError):
        return 0, {}
