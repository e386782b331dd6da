"""A fast receiver on loopback, in a process of its own: counts what it gets and notes when.

`python -m benchmarks.baselines.receiver` prints its port, then for each line on stdin the times of arrival
(seconds of the machine's clock) by `webhook-id` since the last line, as one JSON object.
"""

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


@dataclass(frozen=True)
class Running:
    """The receiver as the benchmark holds it."""

    port: int
    _process: "subprocess.Popen[str]"

    def url(self, path: str = "/") -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def arrivals(self) -> dict[str, float]:
        """When each `webhook-id` first arrived, since the last call."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return {str(id): float(at) for id, at in json.loads(self._process.stdout.readline()).items()}


@contextmanager
def running() -> Iterator[Running]:
    """Start it, and stop it at the end."""
    command = [sys.executable, "-m", __name__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield Running(int(process.stdout.readline()), process)
        finally:
            process.stdin.close()


class _Connection(asyncio.Protocol):
    """Reads requests with a Content-Length, which is what senders send."""

    def __init__(self, arrived: dict[str, float]) -> None:
        self._arrived = arrived
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while True:
            head, end, rest = self._read.partition(b"\r\n\r\n")
            headers = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
            length = int(headers.get(b"content-length", 0))
            if not end or len(rest) < length:
                return
            self._read = rest[length:]
            self._arrived.setdefault(headers.get(b"webhook-id", b"?").decode(), time.time())
            self._transport.write(_ANSWER)


async def _serve() -> None:
    arrived: dict[str, float] = {}
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(arrived), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    while await loop.run_in_executor(None, sys.stdin.readline):
        print(json.dumps(arrived), flush=True)
        arrived.clear()


if __name__ == "__main__":
    asyncio.run(_serve())
