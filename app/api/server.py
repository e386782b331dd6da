"""What gunicorn's gevent worker lacks: ending at once, and refusing bad requests with problems.

Imported by gunicorn's parent process too, so it imports nothing of the application.
"""

from http import HTTPStatus
from types import TracebackType
from typing import Any
from uuid import uuid4

import gevent
import orjson
from gunicorn.workers.ggevent import GeventWorker

_LOOK_S = 0.1


class Worker(GeventWorker):
    """Told to end, it lets held requests go and closes idle connections; requests at work are finished."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._idle: set[Any] = set()

    def run(self) -> None:
        """Serve until told to end."""
        gevent.spawn(self._end_soon)
        super().run()

    def timeout_ctx(self) -> "_Idle":
        """Around waiting for a connection's next request."""
        return _Idle(self._idle, self.cfg.keepalive)

    def _end_soon(self) -> None:
        while self.alive:
            gevent.sleep(_LOOK_S)
        self.wsgi.extensions["headrace"].wakeups.close()
        while True:
            for connection in list(self._idle):
                # Its loop takes this as the end of the connection.
                gevent.kill(connection, StopIteration)
            gevent.sleep(_LOOK_S)


class _Idle:
    """Notes the current greenlet as idle, `seconds` at most."""

    def __init__(self, idle: set[Any], seconds: float) -> None:
        self._idle = idle
        self._timeout = gevent.Timeout(seconds, False)

    def __enter__(self) -> None:
        self._idle.add(gevent.getcurrent())
        self._timeout.__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        self._idle.discard(gevent.getcurrent())
        return self._timeout.__exit__(kind, error, trace)


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
