"""Light clients: many kept connections in one process, each sending one prebuilt request after the other.

A client library would cost as much as the server does, on the same cores.
"""

import selectors
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Answers:
    """What came back: how many answers, how long each took, and from when to when."""

    seconds: float
    count: int = 0
    latencies_ms: list[float] = field(default_factory=list)


@dataclass
class _Client:
    socket: socket.socket
    sent: float = 0.0
    received: bytes = b""

    def is_whole(self) -> bool:
        head, found, body = self.received.partition(b"\r\n\r\n")
        if not found:
            return False
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                return len(body) >= int(line[15:])
        raise RuntimeError(f"an answer without a length: {head!r}")


def request(url: str, path: str, body: bytes, headers: Mapping[str, str]) -> bytes:
    """A POST of JSON, ready to be sent."""
    lines = [
        f"POST {path} HTTP/1.1",
        f"Host: {urlsplit(url).netloc}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        *(f"{name}: {value}" for name, value in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + body


def send(url: str, message: bytes, *, clients: int, seconds: float) -> Answers:
    """Send `message` from each client again and again. Raises at the first answer that is not 2xx."""
    address = urlsplit(url)
    with selectors.DefaultSelector() as selector:
        for _ in range(clients):
            client = _connect(address.hostname or "", address.port or 80)
            selector.register(client.socket, selectors.EVENT_READ, client)
        answers = Answers(0.0)
        started = time.perf_counter()
        for key in list(selector.get_map().values()):
            _send(key.data, message)
        while selector.get_map():
            for key, _ in selector.select(60):
                client = key.data
                client.received += _read(client)
                if not client.is_whole():
                    continue
                now = time.perf_counter()
                if client.received[9:10] != b"2":
                    raise RuntimeError(client.received[:500].decode("latin-1"))
                answers.count += 1
                answers.latencies_ms.append((now - client.sent) * 1000)
                if now - started < seconds:
                    _send(client, message)
                else:
                    selector.unregister(client.socket)
                    client.socket.close()
        answers.seconds = time.perf_counter() - started
        return answers


@dataclass(frozen=True)
class Answer:
    """One answer, and when it came: seconds since the first request was due."""

    status: int
    head: bytes
    body: bytes
    at: float


def offer(url: str, message: bytes, *, rate: float, seconds: float, clients: int) -> list[Answer]:
    """Send `message` so often a second, however the server answers, and return every answer.

    A request that finds all clients waiting goes out as soon as one is free: then the rate is missed.
    """
    address, due = urlsplit(url), round(rate * seconds)
    answers, sent = list[Answer](), 0
    with selectors.DefaultSelector() as selector:
        idle = [_connect(address.hostname or "", address.port or 80) for _ in range(clients)]
        started = time.perf_counter()
        while len(answers) < due:
            now = time.perf_counter() - started
            while idle and sent < due and sent <= now * rate:
                client = idle.pop()
                _send(client, message)
                selector.register(client.socket, selectors.EVENT_READ, client)
                sent += 1
            patience = max(0.0, sent / rate - now) if idle and sent < due else 60.0
            for key, _ in selector.select(patience):
                client = key.data
                client.received += _read(client)
                if client.is_whole():
                    head, _, body = client.received.partition(b"\r\n\r\n")
                    answers.append(Answer(int(head[9:12]), head, body, time.perf_counter() - started))
                    selector.unregister(client.socket)
                    idle.append(client)
        for client in idle:
            client.socket.close()
    return answers


def _connect(host: str, port: int) -> _Client:
    connection = socket.create_connection((host, port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return _Client(connection)


def _send(client: _Client, message: bytes) -> None:
    client.received, client.sent = b"", time.perf_counter()
    client.socket.sendall(message)


def _read(client: _Client) -> bytes:
    received = client.socket.recv(65536)
    if not received:
        raise RuntimeError("the server closed a connection")
    return received
