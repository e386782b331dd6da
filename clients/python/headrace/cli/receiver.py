"""The HTTP side of `headrace listen`: takes requests on loopback, bounded in number, size and time."""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

HOST = "127.0.0.1"
# Headrace sends some 20 kB at most; the rest is for whoever else signs with the same secret.
LARGEST_BODY = 2 * 2**20

_MOST_AT_ONCE = 32
_SILENCE_S = 10.0
_LOOK_UP_S = 0.2
_BODILESS = (204, 304)

Headers = list[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """What the sender is answered. There is no body: nobody would read it."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)


Answer = Callable[[Headers, bytes], Reply]
"""Given the headers and the exact body of a POST. Called by many threads."""


class Receiver(ThreadingHTTPServer):
    """Bound when it is made. Until it runs, whoever connects waits."""

    request_queue_size = 128

    def __init__(self, port: int) -> None:
        self.answer: Answer = _too_early
        self._places = threading.BoundedSemaphore(_MOST_AT_ONCE)
        super().__init__((HOST, port), _Handler)
        self.timeout = _LOOK_UP_S

    @property
    def url(self) -> str:
        """Where it is reached from this machine."""
        return f"http://{HOST}:{self.server_port}"

    def run(self, answer: Answer, stopped: Callable[[], bool]) -> None:
        """Answer every POST until `stopped` says so, which is asked a few times a second."""
        self.answer = answer
        while not stopped():
            self.handle_request()

    def server_bind(self) -> None:
        # HTTPServer would ask DNS for this machine's name, which can take seconds and is of no use.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, self.socket.getsockname()[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        self._places.acquire()
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A sender that hangs up or falls silent is its own affair; anything else is a bug of ours.
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    timeout = _SILENCE_S
    server: Receiver

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._reply(Reply(411))
        elif len(length) > 12 or int(length) > LARGEST_BODY:
            self._reply(Reply(413))
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._reply(self.server.answer(self.headers.items(), body))

    def _reply(self, reply: Reply) -> None:
        self.send_response_only(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in _BODILESS:
            self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet: what was received is shown by the command."""


def _too_early(_: Headers, __: bytes) -> Reply:
    return Reply(503)
