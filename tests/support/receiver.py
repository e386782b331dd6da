"""A webhook receiver on loopback: a real HTTP server, kept in a thread, that notes what it gets.

Each path has its own behaviour, so that one server is many receivers.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp import web

from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Received:
    """One request, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]

    @property
    def event(self) -> dict[str, Any]:
        return dict(orjson.loads(self.body))


@dataclass
class Receiver:
    """What arrived, and how to answer: `answers[path]` is a status, or makes a response."""

    port: int = 0
    received: list[Received] = field(default_factory=list)
    answers: dict[str, int | Callable[[Received], Any]] = field(default_factory=dict)

    def url(self, path: str = "/hook") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str) -> list[Received]:
        return [one for one in self.received if one.path == path]

    def wait_for(self, count: int, path: str | None = None, deadline_s: float = 15) -> list[Received]:
        """The requests (of one path), once there are so many."""

        def enough() -> list[Received] | None:
            found = self.received if path is None else self.at(path)
            return list(found) if len(found) >= count else None

        return wait_until(enough, deadline_s, f"{count} requests at {path or self.url()}") or []


async def _answer(receiver: Receiver, request: web.Request) -> web.StreamResponse:
    body = await request.read()
    one = Received(
        request.path,
        {name.lower(): value for name, value in request.headers.items()},
        body,
        asyncio.get_running_loop().time(),
    )
    receiver.received.append(one)
    answer = receiver.answers.get(request.path, 204)
    if callable(answer):
        answer = answer(one)
        if asyncio.iscoroutine(answer):
            answer = await answer
    if isinstance(answer, int):
        return web.Response(status=answer)
    assert isinstance(answer, web.StreamResponse)
    return answer


async def _stop(runner: web.AppRunner) -> None:
    await runner.cleanup()
    # Handlers that never answer.
    left = asyncio.all_tasks() - {asyncio.current_task()}
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)


@contextlib.contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver that answers 204 to everything, until it is told otherwise."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="receiver", daemon=True)
    thread.start()
    made = Receiver()

    async def start() -> web.AppRunner:
        app = web.Application()

        async def handle(request: web.Request) -> web.StreamResponse:
            return await _answer(made, request)

        app.router.add_route("*", "/{tail:.*}", handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        made.port = runner.addresses[0][1]
        return runner

    runner = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield made
    finally:
        asyncio.run_coroutine_threadsafe(_stop(runner), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
