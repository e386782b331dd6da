"""The guard at work: real sockets on loopback, servers that misbehave, and a watch on every connection."""

import asyncio
import contextlib
import functools
import gzip
import os
import socket
import ssl
import struct
import threading
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.egress import EgressPolicy
from app.settings import parse_networks
from tests.support import hostile
from workers.egress import Answer, Dns, Egress, EgressError

LOCAL = EgressPolicy(allow_http=True, allow_loopback=True)
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
PUBLIC_IP = "8.8.8.8"
FOREVER = 60.0

CHUNKED = b"HTTP/1.1 %d OK\r\nTransfer-Encoding: chunked\r\n\r\n"

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an `async def` test on a loop of its own, for a minute at most."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), FOREVER))

    return run


class Watch(list[Any]):
    """The address of every connection that was tried, and how many sockets were made, by the thread that runs
    the test: aiohttp connects on its loop. Threads of earlier tests may still look for their Redis.

    Nothing but loopback is ever connected: other addresses are noted and refused.
    """

    made = 0

    def watched(self) -> type[socket.socket]:
        """A `socket.socket` that reports here."""
        watch, ours = self, threading.get_ident()

        class Watched(socket.socket):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                watch.made += threading.get_ident() == ours

            def connect(self, address: Any) -> None:
                if threading.get_ident() == ours:
                    watch.append(address)
                if address[0] not in ("127.0.0.1", "::1"):
                    raise ConnectionRefusedError("not in a test")
                super().connect(address)

        return Watched


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watch]:
    watch = Watch()
    monkeypatch.setattr(socket, "socket", watch.watched())
    yield watch
    for address in watch:
        assert address[0] in ("127.0.0.1", "::1", PUBLIC_IP)


@pytest.fixture(scope="module", autouse=True)
def no_store() -> Iterator[None]:
    """Nobody is trusted: the system's store takes a while to read, and each test has its own `Egress`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", os.devnull)
        yield


class Server:
    """A TCP server on loopback that does what `serve` does with each connection."""

    def __init__(self, serve: Serve, tls: ssl.SSLContext | None = None) -> None:
        self._serve, self._tls = serve, tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.connections = 0
        self.requests: list[bytes] = []
        self.came, self.gone = asyncio.Event(), asyncio.Event()
        """Set when a connection began, and when one ended."""

    async def __aenter__(self) -> "Server":
        self._server = await asyncio.start_server(self._handle, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.url = f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        self.came.set()
        try:
            await self._serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.gone.set()
            writer.close()


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """A request's head and body. Raises when the connection ended."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return head + await reader.readexactly(int(lengths[0].split(b":")[1]) if lengths else 0)


def saying(
    *chunks: bytes, pause_s: float = 0, close: bool = False, tls: ssl.SSLContext | None = None
) -> Server:
    """Answers every request of a connection with these bytes; closes after one if it should."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            server.requests.append(await read_request(reader))
            for chunk in chunks:
                writer.write(chunk)
                await writer.drain()
                if pause_s:
                    await asyncio.sleep(pause_s)
            if close:
                return

    server = Server(serve, tls)
    return server


def repeating(start: bytes, chunk: bytes, pause_s: float = 0) -> Server:
    """Answers with `start`, and then with `chunk` again and again until the connection is gone."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.requests.append(await read_request(reader))
        writer.write(start)
        while True:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(pause_s)

    server = Server(serve)
    return server


def silent() -> Server:
    """Accepts connections and says nothing."""

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.read(-1)

    return Server(serve)


@contextlib.asynccontextmanager
async def canary() -> AsyncIterator[int]:
    """The port of a server on every loopback address that fails the test if anyone connects."""
    visits = []

    async def visited(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        visits.append(writer.get_extra_info("sockname"))
        writer.close()

    servers = [await asyncio.start_server(visited, "127.0.0.1", 0)]
    port = servers[0].sockets[0].getsockname()[1]
    with contextlib.suppress(OSError):  # a machine without IPv6
        servers.append(await asyncio.start_server(visited, "::1", port))
    try:
        yield port
        # A connection that was made has been accepted when a later one has.
        for server in servers:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            await reader.read()
            writer.close()
    finally:
        for server in servers:
            server.close()
    assert len(visits) == len(servers), f"somebody was inside: {visits}"


def answers(*questions: list[str]) -> Callable[[str, int], Awaitable[list[str]]]:
    """A name server with an answer for each question in turn; the last one for all that follow."""
    left = list(questions)

    async def resolve(host: str, port: int) -> list[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return resolve


async def post(egress: Egress, url: str, body: bytes = b"{}", **options: Any) -> Answer:
    headers = {"content-type": "application/json"}
    return await egress.post(url, headers, body, **{"deadline_s": 20, **options})


async def get(egress: Egress, url: str, **options: Any) -> tuple[Answer, bytes]:
    got = bytearray()
    answer = await egress.get(url, {}, got.extend, **{"deadline_s": 20, **options})
    return answer, bytes(got)


async def failure(egress: Egress, url: str, **options: Any) -> str:
    with pytest.raises(EgressError) as failed:
        await post(egress, url, **options)
    assert str(failed.value) == failed.value.kind
    assert failed.value.__cause__ is None
    assert failed.value.__suppress_context__
    return failed.value.kind


# What must not be reached.


@pytest.mark.parametrize("policy", [EgressPolicy(), EgressPolicy(allow_http=True)], ids=["https", "http"])
@on_loop
async def test_no_hostile_url_gets_as_far_as_a_socket(policy: EgressPolicy, watch: Watch) -> None:
    async with canary() as port, Egress(policy, resolve=answers(["127.0.0.1"])) as egress:
        made = watch.made
        for url, _ in hostile.URLS:
            url = url.replace("PORT", str(port))
            for spelling in {url, url.replace("https", "http", 1)}:
                assert await failure(egress, spelling) == "blocked", ascii(spelling)
        assert (watch, watch.made) == ([], made)


@on_loop
async def test_nothing_is_fetched_from_where_nothing_is_posted(watch: Watch) -> None:
    async with canary() as port, Egress(EgressPolicy(), resolve=answers(["127.0.0.1"])) as egress:
        made = watch.made
        for url in (*(url for url, _ in hostile.URLS), "https://good.example:PORT/"):
            with pytest.raises(EgressError) as failed:
                await get(egress, url.replace("PORT", str(port)))
            assert failed.value.kind == "blocked", ascii(url)
        assert (watch, watch.made) == ([], made)


@on_loop
async def test_what_is_fetched_is_whole_or_an_error() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: Image/PNG; a=b\r\n"
    whole = saying(head + b"Content-Length: 4\r\n\r\nab", b"cd")
    short = saying(head + b"Content-Length: 9\r\n\r\nabcd", close=True)
    cut = saying(CHUNKED % 200 + b"4\r\nabcd\r\n", close=True)
    packed = saying(head + b"Content-Encoding: gzip\r\nContent-Length: 2\r\n\r\nxx")
    async with whole, short, cut, packed, Egress(LOCAL) as egress:
        answer, got = await get(egress, whole.url)
        assert (answer.status, answer.content_type, got) == (200, "image/png", b"abcd")
        for server, kind in (
            (short, "connection_failed"),
            (cut, "connection_failed"),
            (packed, "invalid_response"),
        ):
            with pytest.raises(EgressError) as failed:
                await get(egress, server.url)
            assert failed.value.kind == kind


@on_loop
async def test_a_redirect_leads_nowhere_and_gives_nothing() -> None:
    async with saying(OK) as inside:
        moved = f"HTTP/1.1 302 Found\r\nLocation: {inside.url}\r\nContent-Length: 2\r\n\r\nhi".encode()
        async with saying(moved) as server, Egress(LOCAL) as egress:
            answer, got = await get(egress, server.url)
            assert (answer.status, got, inside.requests) == (302, b"", [])


@on_loop
async def test_who_takes_the_bytes_can_end_it() -> None:
    def full(_: bytes) -> None:
        raise BufferError

    async with repeating(CHUNKED % 200, b"4\r\nabcd\r\n") as server, Egress(LOCAL) as egress:
        with pytest.raises(BufferError):
            await egress.get(server.url, {}, full, deadline_s=20)
        await server.gone.wait()


@on_loop
async def test_a_body_that_is_not_over_in_time_is_a_timeout() -> None:
    async with repeating(CHUNKED % 200, b"4\r\nabcd\r\n", pause_s=0.02) as server, Egress(LOCAL) as egress:
        with pytest.raises(EgressError) as failed:
            await get(egress, server.url, deadline_s=0.2)
        assert failed.value.kind == "timeout"


@on_loop
async def test_without_the_check_of_the_url_the_others_still_hold(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EgressPolicy, "check_url", lambda *_: None)
    async with canary() as port, Egress(EgressPolicy(), resolve=answers(["127.0.0.1"])) as egress:
        made = watch.made
        for url, _ in hostile.URLS:
            url = url.replace("PORT", str(port))
            for spelling in {url, url.replace("https", "http", 1)}:
                with pytest.raises((EgressError, ValueError)):
                    await post(egress, spelling)
        assert (watch, watch.made) == ([], made)


@on_loop
async def test_what_no_resolver_judged_is_judged_at_the_socket(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unjudged(_: object, host: str, port: int, family: object) -> list[dict[str, Any]]:
        return [{"hostname": host, "host": ip, "port": port} for ip in ("127.0.0.1", "::1")]

    monkeypatch.setattr("workers.egress._JudgedDns.resolve", unjudged)
    async with canary() as port, Egress(EgressPolicy()) as egress:
        made = watch.made
        assert await failure(egress, f"https://good.example:{port}/") == "blocked"
        assert (watch, watch.made) == ([], made)


@pytest.mark.parametrize(("addresses", "why"), hostile.ANSWERS, ids=str)
@on_loop
async def test_a_name_with_one_forbidden_address_is_not_called_at_any(
    addresses: tuple[str, ...], why: str, watch: Watch
) -> None:
    async with canary() as port, Egress(EgressPolicy(), resolve=answers(list(addresses))) as egress:
        made = watch.made
        assert await failure(egress, f"https://good.example:{port}/") == "blocked"
        assert (watch, watch.made) == ([], made)


@on_loop
async def test_rebinding_after_the_first_question_is_refused(watch: Watch) -> None:
    resolve = answers([PUBLIC_IP], ["127.0.0.1"])
    policy = EgressPolicy(allow_http=True)
    async with canary() as port, Egress(policy, resolve=resolve) as egress:
        url = f"http://rebinding.example:{port}/"
        policy.check_url(url)
        assert await resolve("rebinding.example", port) == [PUBLIC_IP]
        assert await failure(egress, url) == "blocked"
        assert watch == []


@on_loop
async def test_rebinding_has_no_second_question_to_lie_to(watch: Watch) -> None:
    asked = []

    async def resolve(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return [PUBLIC_IP] if len(asked) == 1 else ["127.0.0.1"]

    async with canary() as port, Egress(EgressPolicy(allow_http=True), resolve=resolve) as egress:
        assert await failure(egress, f"http://rebinding.example:{port}/") == "connection_refused"
        assert asked == [("rebinding.example", port)]
        assert watch == [(PUBLIC_IP, port)]


@on_loop
async def test_every_connection_asks_again(watch: Watch) -> None:
    resolve = answers(["127.0.0.1"], ["10.0.0.1"])
    async with saying(OK, close=True) as server, Egress(LOCAL, resolve=resolve) as egress:
        url = f"http://rebinding.example:{server.port}/"
        assert (await post(egress, url)).status == 200
        await server.gone.wait()
        assert await failure(egress, url) == "blocked"
        assert watch == [("127.0.0.1", server.port)]


@on_loop
async def test_an_open_connection_leads_where_it_led_when_it_was_judged(watch: Watch) -> None:
    resolve = answers(["127.0.0.1"], ["10.0.0.1"])
    async with saying(OK) as server, Egress(LOCAL, resolve=resolve) as egress:
        for _ in range(2):
            assert (await post(egress, f"http://rebinding.example:{server.port}/")).status == 200
        assert (server.connections, len(server.requests)) == (1, 2)


@on_loop
async def test_a_thousand_addresses_are_not_a_thousand_connections(watch: Watch) -> None:
    addresses = [PUBLIC_IP] * 1000
    async with Egress(EgressPolicy(), resolve=answers(addresses)) as egress:
        assert await failure(egress, "https://many.example/") == "connection_refused"
    assert 6 <= len(watch) <= 21


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@on_loop
async def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    async with canary() as port:
        location = f"HTTP/1.1 {status} Go\r\nLocation: http://127.0.0.1:{port}/\r\nContent-Length: 0\r\n\r\n"
        async with saying(location.encode()) as server, Egress(LOCAL) as egress:
            assert (await post(egress, server.url)).status == status
            assert len(server.requests) == 1


@on_loop
async def test_http_is_refused_before_dns_when_only_https_is_allowed() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("asked")

    async with Egress(EgressPolicy(), resolve=resolve) as egress:
        assert await failure(egress, "http://good.example/") == "blocked"


@on_loop
async def test_the_environment_has_no_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    async with canary() as port:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{port}")
        async with saying(OK) as server, Egress(LOCAL) as egress:
            assert (await post(egress, server.url)).status == 200
            assert b"authorization" not in server.requests[0].lower()


@on_loop
async def test_an_operators_network_is_reached_and_no_other(watch: Watch) -> None:
    policy = EgressPolicy(allow_http=True, allow_networks=parse_networks("127.0.0.1"))
    async with saying(OK) as server, Egress(policy, resolve=answers(["127.0.0.1"], ["127.0.0.2"])) as egress:
        assert (await post(egress, f"http://receiver.internal:{server.port}/")).status == 200
        assert await failure(egress, f"http://other.internal:{server.port}/") == "blocked"


# What is sent and what is kept.


@on_loop
async def test_a_request_is_what_it_was_told_to_be() -> None:
    headers = {"content-type": "application/json", "user-agent": "Headrace-Webhooks/1", "webhook-id": "dlv_1"}
    async with saying(OK) as server, Egress(LOCAL) as egress:
        await egress.post(f"{server.url}a%7Eb/../c?d=%2B&e=[1]", headers, b'{"a":1}', deadline_s=20)
        head, _, body = server.requests[0].partition(b"\r\n\r\n")
        assert body == b'{"a":1}'
        assert head.decode().split("\r\n") == [
            "POST /a%7Eb/../c?d=%2B&e=[1] HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            "content-type: application/json",
            "user-agent: Headrace-Webhooks/1",
            "webhook-id: dlv_1",
            "Content-Length: 7",
        ]


@on_loop
async def test_an_answer_keeps_when_to_come_back() -> None:
    head = b"HTTP/1.1 503 Busy\r\nretry-after: 120\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n"
    async with saying(head, b"Content-Length: 0\r\n\r\n") as server, Egress(LOCAL) as egress:
        kept = await post(egress, server.url)
        assert (kept.status, kept.retry_after, kept.date) == (503, "120", "Thu, 01 Jan 2026 00:00:00 GMT")
        assert 0 < kept.seconds < 20


@on_loop
async def test_cookies_are_not_taken() -> None:
    answer = b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b; Path=/\r\nContent-Length: 0\r\n\r\n"
    async with saying(answer) as server, Egress(LOCAL, resolve=answers(["127.0.0.1"])) as egress:
        for _ in range(2):
            await post(egress, f"http://receiver.example:{server.port}/")
        assert b"cookie" not in server.requests[1].lower()


@pytest.mark.parametrize("value", ["a\r\nX-Injected: b", "a\nb", "a\rb", "a\0b"])
@on_loop
async def test_a_header_can_not_begin_another(value: str) -> None:
    async with saying(OK) as server, Egress(LOCAL) as egress:
        for headers in ({"x": value}, {value: "x"}):
            with pytest.raises(ValueError, match="header"):
                await egress.post(server.url, headers, b"", deadline_s=20)
        assert server.requests == []


@on_loop
async def test_a_name_of_the_hosts_file_works_in_development() -> None:
    async with saying(OK) as server, Egress(LOCAL) as egress:
        assert (await post(egress, f"http://localhost:{server.port}/")).status == 200


@on_loop
async def test_a_kept_connection_that_the_server_closed_is_no_failure() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        server.requests.append(await read_request(reader))
        writer.write(OK)
        # As if it had been closed while idle, and the request was sent before the news came.
        server.requests.append(await read_request(reader))

    async with Server(serve) as server, Egress(LOCAL) as egress:
        assert (await post(egress, server.url)).status == 200
        assert (await post(egress, server.url)).status == 200
        assert (server.connections, len(server.requests)) == (2, 3)


# Servers that misbehave.

HANGS = {
    "says nothing": lambda: silent(),
    "drips its head": lambda: repeating(b"HTTP/1.1 200 OK\r\nX: ", b"x", 0.05),
    "drips its body": lambda: repeating(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", b"x", 0.05),
    "drips its chunks": lambda: repeating(CHUNKED % 200, b"1\r\nx\r\n", 0.05),
    "is always about to answer": lambda: repeating(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.01),
    "stops in its body": lambda: saying(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"),
}


@pytest.mark.parametrize("how", HANGS)
@on_loop
async def test_the_deadline_is_for_all_of_it(how: str) -> None:
    async with HANGS[how]() as server, Egress(LOCAL) as egress:
        began = asyncio.get_running_loop().time()
        assert await failure(egress, server.url, deadline_s=0.3) == "timeout"
        assert 0.3 <= asyncio.get_running_loop().time() - began < 3
        await server.gone.wait()


@on_loop
async def test_the_deadline_is_for_tls_sending_and_dns_too() -> None:
    async def never(host: str, port: int) -> list[str]:
        return await asyncio.get_running_loop().create_future()

    async def deaf(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.get_running_loop().create_future()

    async with silent() as server, Server(deaf) as busy, Egress(LOCAL) as egress:
        assert await failure(egress, server.url.replace("http", "https"), deadline_s=0.3) == "timeout"
        await server.gone.wait()
        assert await failure(egress, busy.url, body=b"x" * 50_000_000, deadline_s=0.3) == "timeout"
    async with Egress(LOCAL, resolve=never) as egress:
        assert await failure(egress, "http://slow.example/", deadline_s=0.3) == "timeout"


ANSWERS = {
    "too many headers": (b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 1000 + b"\r\n", "invalid_response"),
    "a long header": (b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n", "invalid_response"),
    "a long reason": (b"HTTP/1.1 200 " + b"b" * 100_000 + b"\r\n\r\n", "invalid_response"),
    "noise": (b"\x00\xff\x16\x03\x01 what?\r\n\r\n", "invalid_response"),
    "another protocol": (b"SSH-2.0-OpenSSH_9.6\r\n", "invalid_response"),
    "no status": (b"HTTP/1.1 OK\r\n\r\n", "invalid_response"),
    "two lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "invalid_response"),
    "nonsense for a chunk": (CHUNKED % 200 + b"zz\r\n", "invalid_response"),
    "nothing": (b"", "connection_failed"),
    "half a head": (b"HTTP/1.1 200 OK\r\nContent-", "connection_failed"),
    "half a body": (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", 200),
    "half a chunk": (CHUNKED % 201 + b"9\r\nok", 201),
    "a body to the end": (b"HTTP/1.1 203 OK\r\n\r\nbody", 203),
    "no body": (b"HTTP/1.1 204 OK\r\n\r\n", 204),
    "gone": (b"HTTP/1.0 410 Gone\r\n\r\n", 410),
    "not gzip": (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nok", 200),
    "another answer after it": (OK + OK, 200),
    "a change of protocol": (b"HTTP/1.1 101 Switch\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", 101),
}


@pytest.mark.parametrize("what", ANSWERS)
@on_loop
async def test_bad_answers_are_told_apart_and_a_status_counts_once_it_came(what: str) -> None:
    said, outcome = ANSWERS[what]
    async with saying(said, close=True) as server, Egress(LOCAL) as egress:
        if isinstance(outcome, int):
            assert (await post(egress, server.url)).status == outcome
        else:
            assert await failure(egress, server.url) == outcome
        assert (server.connections, len(server.requests)) == (1, 1)


@on_loop
async def test_endless_headers_are_an_invalid_response_long_before_the_deadline() -> None:
    for chunk in (b"A: b\r\n", b"b" * 1000):
        async with repeating(b"HTTP/1.1 200 OK\r\nA: ", chunk) as server, Egress(LOCAL) as egress:
            assert await failure(egress, server.url) == "invalid_response"
            await server.gone.wait()


pieces = st.one_of(
    st.sampled_from([b"HTTP/1.1 200 OK\r\n", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n"]),
    st.sampled_from([b"\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"zz\r\n", b"A: \xff\r\n", CHUNKED % 200, OK]),
    st.binary(max_size=8),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(pieces, max_size=6), st.booleans())
@on_loop
async def test_whatever_a_server_says_it_is_an_answer_or_an_error_of_ours(
    said: list[bytes], apart: bool
) -> None:
    said = said if apart else [b"".join(said)]
    async with saying(*said, close=True, pause_s=0.001 * apart) as server, Egress(LOCAL) as egress:
        with contextlib.suppress(EgressError):
            assert isinstance(await post(egress, server.url, deadline_s=0.1), Answer)


@on_loop
async def test_an_endless_body_is_cut_off_and_its_status_counts() -> None:
    async with repeating(b"HTTP/1.1 200 OK\r\n\r\n", b"x" * 10_000) as server, Egress(LOCAL) as egress:
        assert (await post(egress, server.url, max_bytes=1000)).status == 200
        await server.gone.wait()


@on_loop
async def test_a_body_beyond_the_limit_ends_the_connection_and_one_within_keeps_it() -> None:
    def sized(size: int) -> Server:
        return saying(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)

    for size, connections in ((1000, 1), (500_000, 2)):
        async with sized(size) as server, Egress(LOCAL) as egress:
            for _ in range(2):
                assert (await post(egress, server.url, max_bytes=1000)).status == 200
            assert server.connections == connections, size


@on_loop
async def test_what_is_compressed_stays_so() -> None:
    bomb = gzip.compress(bytes(50_000_000))
    assert len(bomb) < 65_536
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
    async with saying(head + bomb) as server, Egress(LOCAL) as egress:
        tracemalloc.start()
        try:
            for _ in range(2):
                assert (await post(egress, server.url)).status == 200
            assert tracemalloc.get_traced_memory()[1] < 2_000_000
        finally:
            tracemalloc.stop()
        # Counted as it came, it is within the limit.
        assert server.connections == 1


@on_loop
async def test_an_answer_before_the_request_was_read_counts() -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        await asyncio.get_running_loop().create_future()

    async with Server(hasty) as server, Egress(LOCAL) as egress:
        assert (await post(egress, server.url, body=b"x" * 50_000_000)).status == 413
        assert (await post(egress, server.url)).status == 413
        assert server.connections == 2


@on_loop
async def test_nobody_there_is_a_refused_connection() -> None:
    async with silent() as server:
        pass
    async with Egress(LOCAL) as egress:
        assert await failure(egress, server.url) == "connection_refused"
        assert await failure(egress, f"http://localhost:{server.port}/") == "connection_refused"


@on_loop
async def test_closing_ends_what_is_under_way() -> None:
    asked = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(OK)
        await read_request(reader)
        asked.set()
        await reader.read()

    async with Server(serve) as server, silent() as quiet:
        egress = Egress(LOCAL)
        await post(egress, server.url)
        waiting = [asyncio.create_task(failure(egress, url)) for url in (server.url, quiet.url)]
        await asked.wait()
        await quiet.came.wait()
        await egress.close()
        assert await asyncio.gather(*waiting) == ["connection_failed"] * 2


# TLS.


def certificate(folder: Path, name: str, expires: datetime) -> ssl.SSLContext:
    """A server's context with a certificate that it signed itself, which is left in `folder`."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signed = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(expires - timedelta(days=2))
        .not_valid_after(expires)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(signed.public_bytes(pem))
    (folder / "key.pem").write_bytes(
        key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "certificate.pem", folder / "key.pem")
    return context


@pytest.mark.parametrize(
    ("name", "days", "trusted", "outcome"),
    [
        ("receiver.example", 1, True, "answered"),
        ("receiver.example", 1, False, "tls"),
        ("other.example", 1, True, "tls"),
        ("receiver.example", -1, True, "tls"),
    ],
    ids=["good", "self-signed", "of another name", "expired"],
)
@on_loop
async def test_a_certificate_must_be_good(
    name: str, days: int, trusted: bool, outcome: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = certificate(tmp_path, name, datetime.now(UTC) + timedelta(days=days))
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "certificate.pem"))
    else:
        monkeypatch.delenv("SSL_CERT_FILE")
    async with saying(OK, tls=tls) as server, Egress(LOCAL, resolve=answers(["127.0.0.1"])) as egress:
        url = f"https://receiver.example:{server.port}/"
        if outcome == "answered":
            assert (await post(egress, url)).status == 200
        else:
            assert await failure(egress, url) == outcome


@on_loop
async def test_a_system_without_a_store_has_that_of_certifi(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls = certificate(tmp_path, "receiver.example", datetime.now(UTC) + timedelta(days=1))
    monkeypatch.setattr(ssl, "get_default_verify_paths", lambda: SimpleNamespace(cafile=None, capath=None))
    monkeypatch.setattr("certifi.where", lambda: str(tmp_path / "certificate.pem"))
    async with saying(OK, tls=tls) as server, Egress(LOCAL, resolve=answers(["127.0.0.1"])) as egress:
        assert (await post(egress, f"https://receiver.example:{server.port}/")).status == 200


@on_loop
async def test_a_server_without_tls_is_a_tls_error() -> None:
    async def plain(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with Server(plain) as server, Egress(LOCAL) as egress:
        assert await failure(egress, server.url.replace("http", "https")) == "tls"


# DNS.


class NameServer(asyncio.DatagramProtocol):
    """Answers A questions from a table, and never the names it does not have."""

    def __init__(self, table: dict[str, list[str]]) -> None:
        self._table = table
        self.asked: set[str] = set()
        self.fifty_unknown = asyncio.Event()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self.address = "{}:{}".format(*transport.get_extra_info("sockname"))

    def datagram_received(self, data: bytes, sender: Any) -> None:
        labels, at = [], 12
        while data[at]:
            labels.append(data[at + 1 : at + 1 + data[at]].decode().lower())
            at += 1 + data[at]
        name, (kind,) = ".".join(labels), struct.unpack_from("!H", data, at + 1)
        self.asked.add(name)
        if name not in self._table:
            if len(self.asked) >= 50:
                self.fifty_unknown.set()
            return
        found = self._table[name] if kind == 1 else []
        records = b"".join(struct.pack("!HHHIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(ip) for ip in found)
        rcode = 0 if self._table[name] else 3
        head = data[:2] + struct.pack("!HHHHH", 0x8180 | rcode, 1, len(found), 0, 0)
        self._transport.sendto(head + data[12 : at + 5] + records, sender)


@contextlib.asynccontextmanager
async def name_server(**table: list[str]) -> AsyncIterator[NameServer]:
    """A name server on loopback that knows `<name>.example`."""
    loop = asyncio.get_running_loop()
    names = {f"{name}.example": found for name, found in table.items()}
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: NameServer(names), local_addr=("127.0.0.1", 0)
    )
    try:
        yield protocol
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def dns(server: NameServer) -> AsyncIterator[Dns]:
    asking = Dns(search=False, nameservers=[server.address])
    try:
        yield asking
    finally:
        await asking.close()


@on_loop
async def test_names_are_asked_of_a_real_name_server_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALDOMAIN", "search.example")
    async with (
        saying(OK, close=True) as server,
        name_server(here=["127.0.0.1"], inside=["127.0.0.1", "10.0.0.1"], nowhere=[]) as names,
        dns(names) as resolve,
        Egress(LOCAL, resolve=resolve) as egress,
    ):
        assert (await post(egress, f"http://here.example:{server.port}/")).status == 200
        assert await failure(egress, f"http://inside.example:{server.port}/") == "blocked"
        assert await failure(egress, f"http://nowhere.example:{server.port}/") == "dns"
        assert names.asked == {"here.example", "inside.example", "nowhere.example"}
        assert server.connections == 1


@on_loop
async def test_names_that_are_never_answered_delay_no_other() -> None:
    async with (
        saying(OK) as server,
        name_server(here=["127.0.0.1"]) as names,
        dns(names) as resolve,
        Egress(LOCAL, resolve=resolve) as egress,
    ):
        slow = [f"http://slow{n}.example/" for n in range(50)]
        waiting = [asyncio.create_task(failure(egress, url, deadline_s=FOREVER)) for url in slow]
        await names.fifty_unknown.wait()
        assert (await post(egress, f"http://here.example:{server.port}/", deadline_s=1)).status == 200
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
