"""What gunicorn's gevent worker lacks: ending at once, one write an answer, and refusals that are problems.

Imported by gunicorn's parent process too, so it imports nothing of the application.
"""

import contextlib
import socket
import time
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from types import TracebackType
from typing import Any
from uuid import uuid4

import gevent
import orjson
from gevent.pool import Pool
from gevent.server import StreamServer
from gunicorn import util
from gunicorn.http.wsgi import Response
from gunicorn.sock import ssl_context
from gunicorn.workers.ggevent import GeventWorker

_LOOK_S = 0.05

_LAST_CALL_S = 0.25
"""How long a kept connection must have been silent before a worker that ends closes it: a request that is on
its way would be lost."""


class Worker(GeventWorker):
    """Told to end, it lets held requests go and closes silent connections; requests at work are finished.

    gunicorn's own looks once a second whether it was told to end, and again whether it is done.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._idle: dict[Any, float] = {}
        self._clients: dict[Any, Any] = {}

    def init_process(self) -> None:
        """In the child, before anything is served."""
        # gunicorn asks for a dozen settings per request, each by way of `__getattr__`.
        self.cfg.__dict__.update({name: setting.get() for name, setting in self.cfg.settings.items()})
        super().init_process()

    def run(self) -> None:
        """Serve until told to end, then finish what was begun."""
        servers = [self._serve(listener) for listener in self.sockets]
        while self.alive:
            self.notify()
            gevent.sleep(_LOOK_S)
        for server in servers:
            _take_the_rest(server)
            server.close()
        self.wsgi.extensions["headrace"].wakeups.close()
        until = time.monotonic() + self.cfg.graceful_timeout
        while any(len(server.pool) for server in servers) and time.monotonic() < until:
            self._close_silent()
            self.notify()
            gevent.sleep(_LOOK_S)
        for server in servers:
            server.stop(timeout=1)

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection, until it ends."""
        here = gevent.getcurrent()
        self._clients[here] = client
        try:
            super().handle(listener, client, addr)
        finally:
            del self._clients[here]

    def timeout_ctx(self) -> "_Idle":
        """Around waiting for a connection's next request."""
        return _Idle(self._idle, self.cfg.keepalive)

    def _serve(self, listener: Any) -> StreamServer:
        listener.setblocking(1)
        tls = {"ssl_context": ssl_context(self.cfg)} if self.cfg.is_ssl else {}
        pool = Pool(self.worker_connections)
        # By its name: a connection that was taken just before the listener is closed asks for it after that.
        named = _Named(listener.getsockname())
        server = StreamServer(listener, handle=partial(self.handle, named), spawn=pool, **tls)
        if self.cfg.workers > 1:
            server.max_accept = 1  # leave some for the others
        server.start()
        return server

    def _close_silent(self) -> None:
        now = time.monotonic()
        for connection, since in list(self._idle.items()):
            if now - since > _LAST_CALL_S:
                _hang_up(self._clients[connection])


@dataclass(frozen=True)
class _Named:
    """What gunicorn asks a listener for."""

    name: Any

    def getsockname(self) -> Any:
        """Where it listens."""
        return self.name


def _take_the_rest(server: StreamServer) -> None:
    """Take the connections that the kernel has accepted for us: closing the listener would reset them."""
    while not server.full() and (connection := server.do_read()):
        server.do_handle(*connection)


def _hang_up(client: Any) -> None:
    """Have its reader find the end of the connection, but first whatever came before: this process may have
    had no time to read it, and what looks like silence is a request.
    """
    # The kernel's socket, whatever is around it: TLS, once told to shut down, would not read what came.
    with (
        contextlib.suppress(OSError),  # the other side was first
        socket.fromfd(client.fileno(), client.family, client.type) as raw,
    ):
        raw.shutdown(socket.SHUT_RD)


class _Idle:
    """Notes since when the current greenlet is idle, `seconds` at most."""

    def __init__(self, idle: dict[Any, float], seconds: float) -> None:
        self._idle = idle
        self._timeout = gevent.Timeout(seconds, False)

    def __enter__(self) -> None:
        self._idle[gevent.getcurrent()] = time.monotonic()
        self._timeout.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._idle.pop(gevent.getcurrent(), None)
        return self._timeout.__exit__(kind, error, trace)


class WholeResponse(Response):
    """Writes an answer that is whole at once: else its client would be woken for the head alone."""

    headers_sent: bool

    def write(self, arg: bytes) -> None:
        """Send a piece of the body, and the head before the first one."""
        if self.headers_sent or self.chunked or self._omits_body or self.response_length != len(arg):
            super().write(arg)
            return
        head = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        util.write(self.sock, "".join(head).encode("latin-1") + arg)
        self.headers_sent, self.sent = True, len(arg)


def problem_response(status: int) -> bytes:
    """A whole answer for what never reached the application: a bad request line, header or chunk."""
    phrase = HTTPStatus(status).phrase
    code = "internal_error" if status >= 500 else "bad_request"
    request_id = f"req_{uuid4().hex}"
    detail = "The request line, a header or the body's framing can't be understood."
    body = orjson.dumps(
        {
            "type": f"/docs/errors#{code}",
            "title": phrase,
            "status": status,
            "detail": detail,
            "instance": "",
            "code": code,
            "request_id": request_id,
            "retryable": False,
            "errors": [],
            "error": {
                "message": detail,
                "type": "server_error" if status >= 500 else "invalid_request_error",
                "param": None,
                "code": code,
            },
        }
    )
    head = (
        f"HTTP/1.1 {status} {phrase}\r\nConnection: close\r\nContent-Type: application/problem+json\r\n"
        f"X-Request-Id: {request_id}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("latin-1") + body
