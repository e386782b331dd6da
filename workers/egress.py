"""Every request to a URL that a tenant named leaves through here, and goes nowhere the policy forbids.

    check_url ─► resolve, once ─► every address allowed? ─► socket: this address allowed? ─► connect

The name is resolved when a connection is made, never before, and the connection is made to the addresses
that were judged: there is no second question that a name server could answer otherwise. The socket's check
is the last line, for whatever comes there without having been resolved (aiohttp asks no resolver about a
literal address). A connection that is kept open for the next request needs no new check, because it leads
where it led when it was judged, wherever its name leads by now.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from ipaddress import IPv6Address, ip_address
from types import SimpleNamespace
from typing import Literal, Self

import aiodns
import aiohttp
import certifi
import pycares
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from app.domain.egress import Address, EgressPolicy, Refused

MAX_ANSWER_BYTES = 64 * 1024

# Long enough for the next of a burst to the same receiver, and no longer than servers commonly keep an idle
# connection (gunicorn 2 s, Node.js and uvicorn 5 s). Names are cheap: without an end, one tenant's thousand
# names would hold a thousand sockets open.
_KEEPALIVE_S = 2.0

# aiohttp tries n refusing addresses n(n+1)/2 times; nobody shall have a thousand ports knocked at.
_MOST_ADDRESSES = 6

_URLS_KNOWN = 1_000

_DNS_TIMEOUT_S = 2.0
_DNS_TRIES = 2

Kind = Literal[
    "timeout", "connection_refused", "connection_failed", "dns", "tls", "blocked", "invalid_response"
]
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to IP addresses. Raises OSError when there are none."""
Take = Callable[[bytes], None]
"""Is given an answer's bytes as they come."""


class EgressError(Exception):
    """No answer. `kind` is all there is to know: neither what the peer said nor where it is."""

    def __init__(self, kind: Kind) -> None:
        self.kind: Kind = kind
        super().__init__(kind)


@dataclass(frozen=True, slots=True)
class Answer:
    """What is kept of an answer. Its body is read, so that the connection can be used again, and dropped."""

    status: int
    seconds: float
    """From the call until the answer was read."""
    retry_after: str | None = None
    """The header of this name, as it came."""
    date: str | None = None
    """The header of this name, as it came: what a Retry-After that is a time is relative to."""
    content_type: str | None = None
    """What `get` gave away has this type, without its parameters, if the server said so."""


class Egress:
    """A pool of connections under one policy, for one event loop. The caller bounds how many are in use."""

    def __init__(self, policy: EgressPolicy, *, resolve: Resolve | None = None) -> None:
        self._policy = policy
        # Of the text alone, so what was allowed stays allowed; what is refused is judged anew each time.
        self._checked = lru_cache(_URLS_KNOWN)(self._check)
        self._dns: Dns | None = None
        if resolve is None:
            resolve = self._dns = Dns(search=bool(policy.allow_networks))
        reused = aiohttp.TraceConfig()
        reused.on_connection_reuseconn.append(_note_reuse)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=_JudgedDns(policy, resolve),
                use_dns_cache=False,
                socket_factory=self._socket,
                ssl=_tls(),
                limit=0,
                keepalive_timeout=_KEEPALIVE_S,
            ),
            timeout=aiohttp.ClientTimeout(),
            trust_env=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            trace_configs=[reused],
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close every connection. Requests under way end with `connection_failed`."""
        await self._session.close()
        if self._dns is not None:
            await self._dns.close()

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        *,
        deadline_s: float,
        max_bytes: int = MAX_ANSWER_BYTES,
    ) -> Answer:
        """Post `body` and read at most `max_bytes` of the answer. Raises `EgressError`.

        From DNS to the answer's last byte all is done within `deadline_s`; an answer that is not over by
        then is a timeout. One that is too long or cut off counts for its status, and a redirect is an
        answer like any other. The body may arrive twice: it is sent again if a kept connection turns out
        to be closed.
        """
        started = asyncio.get_running_loop().time()

        async def drop(answer: aiohttp.ClientResponse) -> None:
            await _drain(answer, max_bytes)

        answer = await self._ask("POST", url, headers, body, drop, deadline_s)
        return Answer(
            answer.status,
            asyncio.get_running_loop().time() - started,
            retry_after=answer.headers.get("Retry-After"),
            date=answer.headers.get("Date"),
        )

    async def get(self, url: str, headers: Mapping[str, str], take: Take, *, deadline_s: float) -> Answer:
        """Get what is there: if the answer is 200, `take` has its bytes as they come, in order. Raises
        `EgressError`, and what `take` raises, which ends it.

        An answer that is cut off is `connection_failed`, and one that is compressed `invalid_response`: what
        would become of it is not known before. All else is as for `post`.
        """
        started = asyncio.get_running_loop().time()

        async def read(answer: aiohttp.ClientResponse) -> None:
            if answer.status != HTTPStatus.OK:
                await _drain(answer, MAX_ANSWER_BYTES)
                return
            if answer.headers.get("Content-Encoding", "identity").lower() != "identity":
                raise EgressError("invalid_response")
            try:
                async for chunk in answer.content.iter_any():
                    take(chunk)
            except aiohttp.ClientError:
                raise EgressError("connection_failed") from None

        answer = await self._ask("GET", url, headers, None, read, deadline_s)
        said = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
        return Answer(answer.status, asyncio.get_running_loop().time() - started, content_type=said or None)

    def _check(self, url: str) -> URL:
        self._policy.check_url(url)
        return URL(url, encoded=True)

    async def _ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        read: Callable[[aiohttp.ClientResponse], Awaitable[None]],
        deadline_s: float,
    ) -> aiohttp.ClientResponse:
        try:
            checked = self._checked(url)
            async with asyncio.timeout(deadline_s):
                return await self._request(method, checked, headers, body, read)
        except (Refused, TimeoutError, aiohttp.ClientError, OSError) as error:
            # Without its cause: that has names, addresses and the peer's words in it.
            raise EgressError(_kind(error)) from None

    async def _request(
        self,
        method: str,
        url: URL,
        headers: Mapping[str, str],
        body: bytes | None,
        read: Callable[[aiohttp.ClientResponse], Awaitable[None]],
    ) -> aiohttp.ClientResponse:
        while True:
            connection = SimpleNamespace(reused=False)
            try:
                async with self._session.request(
                    method,
                    url,
                    headers=headers,
                    data=body,
                    allow_redirects=False,
                    trace_request_ctx=connection,
                ) as answer:
                    await read(answer)
                    return answer
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                # The server may have closed it while it was idle, and the news was still on its way.
                if not connection.reused or self._session.closed:
                    raise

    def _socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        family, kind, protocol, _, address = info
        _judge(self._policy, str(address[0]))
        return socket.socket(family, kind, protocol)


class Dns:
    """Asks the system's name servers and its hosts file.

    c-ares waits for all questions at a time. `getaddrinfo` would need a thread for each, and the name
    server of one tenant that never answers would keep every thread from the others.
    """

    def __init__(self, *, search: bool, nameservers: Sequence[str] | None = None) -> None:
        # The search list of a cluster would make five questions of one, and `name.namespace` a service in it.
        flags = pycares.ARES_FLAG_EDNS | (0 if search else pycares.ARES_FLAG_NOSEARCH)
        self._resolver = aiodns.DNSResolver(
            nameservers, timeout=_DNS_TIMEOUT_S, tries=_DNS_TRIES, flags=flags
        )

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Its addresses, best first. Raises OSError if there are none."""
        try:
            found = await self._resolver.getaddrinfo(host, port=port, type=socket.SOCK_STREAM)
        except aiodns.error.DNSError as error:
            # Without its number, which is c-ares' own: 4 is no such name there, and EINTR to an OSError.
            raise OSError(str(error)) from None
        return [node.addr[0].decode() for node in found.nodes]

    async def close(self) -> None:
        """Give up what is being asked."""
        await self._resolver.close()


class _Forbidden(OSError):
    """An address the policy forbids. An OSError: where aiohttp races addresses, it loses all other errors."""


def _judge(policy: EgressPolicy, text: str) -> Address:
    try:
        address = ip_address(text)
    except ValueError:
        raise _Forbidden from None
    if not policy.address_allowed(address):
        raise _Forbidden
    return address


class _JudgedDns(AbstractResolver):
    """Gives aiohttp the addresses of a name if all of them are allowed, and else none."""

    def __init__(self, policy: EgressPolicy, resolve: Resolve) -> None:
        self._policy = policy
        self._resolve = resolve

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - the connector asks for both
    ) -> list[ResolveResult]:
        addresses = [_judge(self._policy, text) for text in await self._resolve(host, port)]
        if not addresses:
            raise OSError("no addresses")
        return [
            ResolveResult(
                hostname=host,
                host=str(address),
                port=port,
                family=socket.AF_INET6 if isinstance(address, IPv6Address) else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses[:_MOST_ADDRESSES]
        ]

    async def close(self) -> None:
        """What resolves is closed by who made it."""


async def _drain(answer: aiohttp.ClientResponse, max_bytes: int) -> None:
    """Read the body, so that the connection can be used again. One with a body that is not over is closed."""
    with contextlib.suppress(aiohttp.ClientError):
        while chunk := await answer.content.read(max_bytes):
            max_bytes -= len(chunk)


async def _note_reuse(_: aiohttp.ClientSession, context: SimpleNamespace, __: object) -> None:
    context.trace_request_ctx.reused = True


def _tls() -> ssl.SSLContext:
    """Verifies by the system's store, where an operator's own authorities are (or by SSL_CERT_FILE)."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None:
        # A Python whose OpenSSL looks where this system has no store.
        context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def _kind(error: Exception) -> Kind:
    if isinstance(error, Refused | aiohttp.InvalidURL | aiohttp.NonHttpUrlClientError):
        return "blocked"
    if isinstance(error, TimeoutError):
        return "timeout"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, _Forbidden):
        return "blocked"
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "dns"
    if isinstance(error, aiohttp.ClientSSLError):
        return "tls"
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, ConnectionRefusedError):
        return "connection_refused"
    if isinstance(error, aiohttp.ClientResponseError):
        return "invalid_response"
    return "connection_failed"
