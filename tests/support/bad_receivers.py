"""Webhook receivers that keep a sender waiting, or do not let it in."""

import asyncio
import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

DRIP_S = 5.0
_HEAD = b"HTTP/1.1 200 OK\r\nX-Slow: "


@dataclass(frozen=True)
class BadReceivers:
    """Their URLs."""

    refusing: str
    """Nobody listens at its port."""
    silent: str
    """Takes the connection and the request, and never answers."""
    dripping: str
    """Answers a byte every `DRIP_S` seconds, without an end."""


@contextlib.contextmanager
def bad_receivers() -> Iterator[BadReceivers]:
    """All three, on loopback."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="bad-receivers", daemon=True)
    thread.start()
    with socket.socket() as refusing:
        # Bound, so that nobody else gets the port, and not listening.
        refusing.bind(("127.0.0.1", 0))
        ports = asyncio.run_coroutine_threadsafe(_serve(), loop).result(10)
        try:
            yield BadReceivers(*(f"http://127.0.0.1:{port}/" for port in (refusing.getsockname()[1], *ports)))
        finally:
            asyncio.run_coroutine_threadsafe(_end(), loop).result(10)
            loop.call_soon_threadsafe(loop.stop)
            thread.join(10)
            loop.close()


async def _serve() -> list[int]:
    servers = [await asyncio.start_server(serve, "127.0.0.1", 0) for serve in (_say_nothing, _drip)]
    return [server.sockets[0].getsockname()[1] for server in servers]


async def _say_nothing(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        await reader.read()


async def _drip(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, asyncio.CancelledError):
        for byte in itertools.chain(_HEAD, itertools.repeat(ord("x"))):
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(DRIP_S)


async def _end() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
