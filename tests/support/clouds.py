"""Small metadata servers that behave as the clouds' do, each on a real socket, and misbehave when told to."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

TROUBLES = ("garbage", "binary", "error", "redirect", "hang", "drip", "endless", "reset", "unauthorized")


@dataclass
class Seen:
    """One request that came."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    body: Any


class Cloud:
    """What its metadata server knows. `trouble` names what is wrong with the server, if anything is."""

    name: ClassVar[str] = "none"

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.trouble: str | None = None
        self.skew = timedelta()
        """How far the cloud's clock is ahead of this machine's."""
        self.seen: list[Seen] = []
        self.left_s: float | None = None
        """Seconds until the machine goes, from the moment of asking; None: nobody takes it."""
        self.changed = threading.Condition()

    def interrupt(self, left_s: float) -> None:
        """The machine goes."""
        with self.changed:
            self.left_s = left_s
            self.changed.notify_all()

    def withdraw(self) -> None:
        """It does not after all."""
        with self.changed:
            self.left_s = None
            self.changed.notify_all()

    def now(self) -> datetime:
        """By the cloud's clock."""
        return datetime.now(UTC) + self.skew

    def answer(self, request: Seen) -> tuple[int, bytes, dict[str, str]]:
        """Status, body and headers. Where notices come some other way there is nothing to be found."""
        return 404, b"", {}


class FakeAws(Cloud):
    """IMDSv2: nothing without a token, and tokens end."""

    name = "aws"

    def __init__(self, url: str = "") -> None:
        super().__init__(url)
        self.tokens: set[str] = set()
        self.issued = 0
        self.action: dict[str, Any] = {"action": "terminate"}
        self.rebalance = False

    def answer(self, request: Seen) -> tuple[int, bytes, dict[str, str]]:
        if request.path == "/latest/api/token":
            if request.method != "PUT":
                return 405, b"", {}
            if not 1 <= int(request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", 0)) <= 21600:
                return 400, b"", {}
            self.issued += 1
            token = f"AQAEAtoken{self.issued}=="
            self.tokens.add(token)
            return 200, token.encode(), {}
        if request.headers.get("x-aws-ec2-metadata-token") not in self.tokens:
            return 401, b"", {}
        if request.path == "/latest/meta-data/spot/instance-action" and self.left_s is not None:
            at = (self.now() + timedelta(seconds=self.left_s)).strftime("%Y-%m-%dT%H:%M:%SZ")
            return 200, json.dumps({"time": at} | self.action).encode(), {}
        if request.path == "/latest/meta-data/events/recommendations/rebalance" and self.rebalance:
            return 200, b'{"noticeTime": "2026-11-25T08:22:00Z"}', {}
        return 404, b"<html>404 - Not Found</html>", {}


class FakeGcp(Cloud):
    """The value of `instance/preempted`, held back with `wait_for_change`."""

    name = "gcp"
    _KEY = "/computeMetadata/v1/instance/preempted"

    def answer(self, request: Seen) -> tuple[int, bytes, dict[str, str]]:
        if request.headers.get("metadata-flavor") != "Google":
            return 403, b"", {}
        if request.path != self._KEY:
            return 404, b"", {}
        with self.changed:
            if request.query.get("wait_for_change") == "true":
                known, patience = request.query.get("last_etag"), float(request.query["timeout_sec"])
                self.changed.wait_for(lambda: self._etag() != known, patience)
            return 200, b"FALSE" if self.left_s is None else b"TRUE", {"ETag": self._etag()}

    def _etag(self) -> str:
        return "calm" if self.left_s is None else "gone"


class FakeAzure(Cloud):
    """Scheduled events of a scale set, of which this machine is one."""

    name = "azure"

    def __init__(self, url: str = "") -> None:
        super().__init__(url)
        self.machine = "pool_IN_7"
        self.others: list[dict[str, Any]] = []
        self.status = "Scheduled"

    def answer(self, request: Seen) -> tuple[int, bytes, dict[str, str]]:
        if request.headers.get("metadata") != "true" or "api-version" not in request.query:
            return 400, b'{"error": "Bad request"}', {}
        if request.path == "/metadata/instance/compute/name":
            return 200, self.machine.encode(), {}
        if request.path != "/metadata/scheduledevents":
            return 404, b"", {}
        if request.method == "POST":
            return 200, b"", {}
        events = list(self.others)
        if self.left_s is not None:
            events.append(self.event("Preempt", self.machine))
        return 200, json.dumps({"DocumentIncarnation": 2, "Events": events}).encode(), {}

    def event(self, kind: str, *machines: str) -> dict[str, Any]:
        at = format_datetime(self.now() + timedelta(seconds=self.left_s or 0), usegmt=True)
        return {
            "EventId": f"id-of-{kind}-{'-'.join(machines)}",
            "EventType": kind,
            "ResourceType": "VirtualMachine",
            "Resources": list(machines),
            "EventStatus": self.status,
            "NotBefore": at if self.status == "Scheduled" else "",
            "Description": "",
            "EventSource": "Platform",
            "DurationInSeconds": -1,
        }


class FakeMachine(Cloud):
    """No server: the file of the local provider."""

    name = "local"

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def interrupt(self, left_s: float) -> None:
        self.file.write_text(json.dumps({"left_s": left_s}))

    def withdraw(self) -> None:
        self.file.unlink()


_TROUBLES: dict[str, Callable[["_Handler"], None]] = {
    "garbage": lambda handler: handler.send(200, b"<html>captive portal: please log in</html>"),
    "binary": lambda handler: handler.send(200, bytes(range(256))),
    "error": lambda handler: handler.send(503, b"busy"),
    "redirect": lambda handler: handler.send(302, b"", {"Location": "http://127.0.0.1:1/"}),
    "unauthorized": lambda handler: handler.send(401, b""),
    "hang": lambda handler: handler.hang(),
    "drip": lambda handler: handler.drip(b"T", 0.1),
    "endless": lambda handler: handler.drip(b"T" * 65536, 0),
    "reset": lambda handler: handler.connection.close(),
}


class _Handler(BaseHTTPRequestHandler):
    cloud: Cloud
    over: threading.Event

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        split = urlsplit(self.path)
        request = Seen(
            self.command,
            split.path,
            {name: values[0] for name, values in parse_qs(split.query).items()},
            {name.lower(): value for name, value in self.headers.items()},
            json.loads(self.rfile.read(length)) if length else None,
        )
        self.cloud.seen.append(request)
        if self.cloud.trouble is not None:
            _TROUBLES[self.cloud.trouble](self)
            return
        self.send(*self.cloud.answer(request))

    do_GET = do_PUT = do_POST = _serve

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def date_time_string(self, timestamp: float | None = None) -> str:
        return format_datetime(self.cloud.now(), usegmt=True)

    def hang(self) -> None:
        self.over.wait()

    def drip(self, piece: bytes, every_s: float) -> None:
        self.send_response(200)
        self.end_headers()
        while not self.over.wait(every_s):
            self.wfile.write(piece)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""

    def handle(self) -> None:
        with suppress(OSError):
            super().handle()


@contextmanager
def serving(cloud: Cloud) -> Iterator[Cloud]:
    """The cloud's metadata server, on a free port of loopback; its address is `cloud.url`."""
    over = threading.Event()
    handler = type("Handler", (_Handler,), {"cloud": cloud, "over": over})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    cloud.url = f"http://127.0.0.1:{server.server_port}"
    try:
        yield cloud
    finally:
        over.set()
        server.shutdown()
        server.server_close()
