"""HTTP servers: the same application on each, on the stack's own Postgres, Valkey and workers.

CPU per request; what 1,000 held requests cost a POST beside them, and how soon each is answered once its job
ended; whether requests are refused or lost while the server changes its processes.
"""

import http.client
import json
import os
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from app.embedded.state import StateDir
from benchmarks import light_clients
from benchmarks.figures import Figure, Measured, percentile
from benchmarks.stack import Stack

HELD = 1000
_PROCESSES = 2
_ECHO = b'{"model":"echo","input":{"n":1}}'
_SLOW = b'{"model":"echo","input":{"n":1,"sleep_ms":40}}'
_TOLD = ("HEADRACE_DATABASE_URL", "HEADRACE_REDIS_URL", "HEADRACE_SECRET_KEY", "HEADRACE_STORAGE_URL")
_WAIT = {"Prefer": "wait=60"}
_GUNICORN = ("gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:application")
_TURNS = 3
_THREADS = HELD // _PROCESSES + 100

# gthread as gunicorn has it: the settings are ours but for the worker. granian is not among our dependencies.
SERVERS: dict[str, Callable[[int], list[str]]] = {
    "gunicorn, gevent": lambda port: [*_GUNICORN, "--bind", f"127.0.0.1:{port}"],
    "gunicorn, gthread": lambda port: [
        *("gunicorn", "--bind", f"127.0.0.1:{port}", "-k", "gthread", "--threads", str(_THREADS)),
        *(
            "-w",
            str(_PROCESSES),
            "--keep-alive",
            "75",
            "--log-level",
            "error",
            "--worker-connections",
            "3000",
        ),
        "app.wsgi:application",
    ],
    "granian, WSGI": lambda port: [
        *("granian", "--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--http", "1"),
        *("--workers", str(_PROCESSES), "--blocking-threads", str(_THREADS), "--backpressure", str(_THREADS)),
        *("--workers-kill-timeout", "10", "--no-ws", "--log-level", "error", "app.wsgi:application"),
    ],
}


@dataclass(frozen=True)
class Server:
    """A server under test, and how its clients reach it."""

    url: str
    process: psutil.Process
    head: dict[str, str]

    def cpu_s(self) -> float:
        """CPU seconds of all of its processes so far; of those that ended, too."""
        own = self.process.cpu_times()
        spent = own.children_user + own.children_system
        for one in (self.process, *self.process.children(recursive=True)):
            times = one.cpu_times()
            spent += times.user + times.system
        return float(spent)

    def memory(self) -> int:
        """Bytes that its processes have in memory."""
        return sum(one.memory_info().rss for one in self.process.children(recursive=True))

    def post(self, body: bytes, **headers: str) -> bytes:
        """A submit, ready to be sent."""
        return light_clients.request(self.url, "/v1/jobs", body, {**self.head, **headers})


def run(stack: Stack, *, seconds: float = 4.0, servers: Sequence[str] = ()) -> Measured:
    """Every server that is installed, one after the other."""
    figures: list[Figure] = []
    for name in servers or SERVERS:
        command = SERVERS[name]
        if _installed(command(0)[0]):
            with serving(stack, command) as server:
                light_clients.send(server.url, server.post(_ECHO, **_WAIT), clients=32, seconds=1.0)
                figures += [
                    *_costs(server, name, seconds),
                    *_holding(server, stack, name),
                    *_reloading(server, name),
                ]
    return figures


def _costs(server: Server, name: str, seconds: float) -> Iterator[Figure]:
    for what, message in (
        ("POST /v1/jobs", server.post(_ECHO)),
        ("POST, held until the result", server.post(_ECHO, **_WAIT)),
    ):
        before = server.cpu_s()
        answers = light_clients.send(server.url, message, clients=32, seconds=seconds)
        spent = server.cpu_s() - before
        yield Figure(name, f"{what}: rate", answers.count / answers.seconds, "requests/s")
        yield Figure(name, f"{what}: CPU", spent * 1000 / answers.count, "ms")


def _holding(server: Server, stack: Stack, name: str) -> Iterator[Figure]:
    """1,000 jobs of 40 ms each are submitted with `Prefer: wait`; beside them, POSTs one after the other.
    Each turn is compared with one of the same jobs that nobody waits for.
    """
    alone = _posts(server, lambda taken: len(taken) < 300)
    beside, ratios, late, more = list[float](), list[float](), list[float](), 0
    for _ in range(_TURNS):
        light_clients.send(server.url, server.post(_SLOW), clients=50, seconds=0.7)  # about as many
        unheld = _posts_while(server, stack.unfinished)
        while stack.unfinished():
            time.sleep(0.1)
        memory = server.memory()
        opened = threading.Event()
        holder = threading.Thread(target=_hold, args=(server, late, opened))
        holder.start()
        opened.wait(60)
        held = _posts_while(server, holder.is_alive)
        more = server.memory() - memory
        holder.join()
        beside += held
        ratios.append(percentile(held, 0.99) / percentile(unheld, 0.99))
    yield Figure(name, "POST alone, p99", percentile(alone, 0.99), "ms")
    yield Figure(name, f"POST beside {HELD:,} held, p50", statistics.median(beside), "ms")
    yield Figure(name, f"POST beside {HELD:,} held, p99", percentile(beside, 0.99), "ms")
    yield Figure(name, "… of that beside the same jobs unheld", statistics.median(ratios), "times")
    yield Figure(name, f"{HELD:,} held: memory", more / 2**20, "MiB")
    yield Figure(name, f"{HELD:,} held: answered", len(late) / _TURNS, "requests")
    yield Figure(name, f"{HELD:,} held: from the job's end to its answer, p50", statistics.median(late), "ms")
    yield Figure(name, f"{HELD:,} held: from the job's end to its answer, slowest", max(late), "ms")


def _posts_while(server: Server, going_on: Callable[[], object]) -> list[float]:
    """As `_posts`, once all of the jobs are read and few are done, and until they are done."""
    time.sleep(2)
    return _posts(server, lambda taken: len(taken) < 50 or (bool(going_on()) and len(taken) < 500))


def _posts(server: Server, more: Callable[[list[float]], bool]) -> list[float]:
    """Milliseconds of POSTs over one kept connection, one each 20 ms."""
    message, address = server.post(_ECHO), urlsplit(server.url)
    taken: list[float] = []
    with socket.create_connection((address.hostname or "", address.port or 80)) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        while more(taken):
            began = time.perf_counter()
            connection.sendall(message)
            received = b""
            while b"\r\n\r\n" not in received or not received.endswith(b"}"):
                received += connection.recv(65536)
            taken.append((time.perf_counter() - began) * 1000)
            if received[9:12] != b"202":
                raise RuntimeError(received[:300].decode("latin-1"))
            time.sleep(0.02)
    return taken


def _hold(server: Server, late: list[float], opened: threading.Event) -> None:
    """Milliseconds from each job's end, as the answer states it, to the answer's arrival."""
    message, address = server.post(_SLOW, **_WAIT), urlsplit(server.url)
    with selectors.DefaultSelector() as selector:
        for _ in range(HELD):
            connection = socket.create_connection((address.hostname or "", address.port or 80))
            connection.sendall(message)
            selector.register(connection, selectors.EVENT_READ, bytearray())
        opened.set()
        while selector.get_map():
            for key, _ in selector.select(60):
                arrived, piece = time.time(), key.fileobj.recv(65536)  # type: ignore[union-attr]
                key.data.extend(piece)
                head, found, body = bytes(key.data).partition(b"\r\n\r\n")
                if piece and not (found and body.endswith(b"}")):
                    continue
                selector.unregister(key.fileobj)
                key.fileobj.close()  # type: ignore[union-attr]
                if head[9:12] == b"200":
                    ended = datetime.fromisoformat(json.loads(body)["completed_at"])
                    late.append((arrived - ended.timestamp()) * 1000)


def _reloading(server: Server, name: str) -> Iterator[Figure]:
    """8 clients with kept connections submit while the server is told twice to change its processes."""
    over, failed, taken = threading.Event(), [0], list[float]()

    def submit() -> None:
        connection = http.client.HTTPConnection(urlsplit(server.url).netloc, timeout=30)
        headers = {**server.head, "Content-Type": "application/json"}
        while not over.is_set():
            began = time.perf_counter()
            try:
                connection.request("POST", "/v1/jobs", _ECHO, headers)
                answer = connection.getresponse()
                answer.read()
                failed[0] += answer.status != 202
            except (OSError, http.client.HTTPException):
                failed[0] += 1
                connection.close()
            taken.append((time.perf_counter() - began) * 1000)

    clients = [threading.Thread(target=submit) for _ in range(8)]
    for client in clients:
        client.start()
    for _ in range(2):
        server.process.send_signal(signal.SIGHUP)
        time.sleep(6)
    over.set()
    for client in clients:
        client.join()
    yield Figure(name, f"two reloads beside {len(taken):,} POSTs: failed", float(failed[0]), "requests")
    yield Figure(name, "two reloads: slowest POST", max(taken), "ms")


def _installed(module: str) -> bool:
    return (
        subprocess.run(
            [sys.executable, "-c", f"import {module}"], check=False, capture_output=True
        ).returncode
        == 0
    )


@contextmanager
def serving(stack: Stack, command: Callable[[int], list[str]], **more: str) -> Iterator[Server]:
    """The application on this server, on the stack's own Postgres, Valkey and workers; `more` settings."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    told = StateDir(Path(stack.state_dir)).read_env()
    process = subprocess.Popen(
        [sys.executable, "-m", *command(port)],
        env={
            **os.environ,
            **{key: told[key] for key in _TOLD},
            "HEADRACE_API_PROCESSES": str(_PROCESSES),
            **more,
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _until_answered(f"{url}/livez", time.monotonic() + 30)
        yield Server(url, psutil.Process(process.pid), {"Authorization": f"Bearer {stack.api_key}"})
    finally:
        process.terminate()
        process.wait(30)


def _until_answered(url: str, until: float) -> None:
    while True:
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
