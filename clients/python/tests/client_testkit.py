"""Tiny real services: everything here speaks HTTP over a socket, nothing of `requests` is replaced."""

import json
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from headrace import Clock

JOB_ID = "job_0190a0000000700080000000000000aa"


class StoppedClock:
    """Time that moves only by sleeping, or when a test says so. `chance` is half."""

    def __init__(self):
        self.time = 1000.0
        self.sleeps = []

    def advance(self, seconds):
        self.time += seconds

    def _sleep(self, seconds):
        self.sleeps.append(seconds)
        self.time += seconds

    def as_clock(self):
        return Clock(now=lambda: self.time, sleep=self._sleep, chance=lambda: 0.5)


@dataclass
class Request:
    method: str
    path: str
    query: dict
    headers: dict
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)


@dataclass
class Reply:
    """`body` is JSON unless bytes. `pieces` are sent one by one as they come, then the line is cut."""

    status: int = 200
    body: object = None
    headers: dict = field(default_factory=dict)
    pieces: Iterable[bytes] | None = None
    drop: bool = False


class Script:
    """Answers with the replies in order. A callable among them is given the request."""

    def __init__(self):
        self.replies = deque()
        self.requests = []

    def then(self, *replies):
        self.replies.extend(replies)
        return self

    def __call__(self, request):
        self.requests.append(request)
        reply = self.replies.popleft()
        return reply(request) if callable(reply) else reply


class LoopbackServer:
    """A threaded HTTP/1.1 server with keep-alive on a free port; `connections` counts the accepts."""

    def __init__(self, answer: Callable[[Request], Reply]):
        self._http = _Server(("127.0.0.1", 0), _Handler)
        self._http.answer = answer
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))

    @property
    def url(self):
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def connections(self):
        return self._http.accepted

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._http.shutdown()
        self._thread.join()
        self._http.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    accepted = 0

    def get_request(self):
        self.accepted += 1
        return super().get_request()

    def handle_error(self, request, client_address):
        """A client that hangs up is what some tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1
    disable_nagle_algorithm = True

    def _serve(self):
        split = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, split.path, dict(parse_qsl(split.query)), dict(self.headers), body)
        reply = self.server.answer(request)
        if reply.drop:
            self._cut()
        elif reply.pieces is not None:
            self._stream(reply)
        else:
            self._whole(reply)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve

    def _whole(self, reply):
        body = reply.body
        if not isinstance(body, bytes):
            body = b"" if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"} | reply.headers
        self.send_response(reply.status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, reply):
        self.send_response(reply.status)
        headers = {"Content-Type": "text/event-stream"} | reply.headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.flush()
        for piece in reply.pieces:
            self.wfile.write(piece)
            self.wfile.flush()
        self.close_connection = True

    def _cut(self):
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def date_time_string(self, _=None):
        """A stopped clock on this side too: `Retry-After` may be a date relative to it."""
        return super().date_time_string(1_445_412_480)

    def log_message(self, *_):
        """Quiet."""


def job(status="queued", **changes):
    """A job as the contract shows it."""
    ended = status not in ("queued", "running")
    return {
        "id": JOB_ID,
        "object": "job",
        "model": "echo",
        "version": "1",
        "status": status,
        "status_reason": None,
        "queue_position": None,
        "eta_s": None,
        "input": {"text": "hi"},
        "output": {"text": "hi"} if status == "succeeded" else None,
        "error": {"code": "model_error", "message": "as asked"} if status == "failed" else None,
        "attempts": [],
        "metrics": {"queue_time": 0.004, "run_time": 0.011, "total_time": 0.02, "batch_size": 8},
        "usage": {"units": 12, "unit": "tokens", "device": "cpu", "device_seconds": 0.0014},
        "progress": None,
        "priority": "normal",
        "use_case": None,
        "metadata": {},
        "batch_id": None,
        "custom_id": None,
        "created_at": "2026-01-31T12:00:00.123456Z",
        "started_at": None,
        "completed_at": "2026-01-31T12:00:01Z" if ended else None,
        "expires_at": "2026-02-01T12:00:00Z",
        "urls": {},
    } | changes


def problem(status, code, detail="no", **more):
    """An error as the contract shows it."""
    body = {
        "type": f"https://headrace.dev/problems/{code}",
        "title": code,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": "req_7",
        "errors": [],
    } | more
    headers = {"Content-Type": "application/problem+json"}
    return Reply(status, body, headers)


def sse(*events, start=1):
    """Events as bytes: `(type, data)` with ids that count up."""
    return b"".join(
        f"id: {number}\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()
        for number, (kind, data) in enumerate(events, start)
    )


class FakeHeadrace:
    """The contract in small, for what users write: jobs of the model `echo` end when waited for."""

    def __init__(self, key, webhooks, batches, admin):
        self.url = ""
        self.webhooks = webhooks
        self.batches = batches
        self.admin = admin
        self._key = key
        self._jobs = {}
        self._by_key = {}
        self._lock = threading.Lock()

    def __call__(self, request):
        if request.headers.get("Authorization") != f"Bearer {self._key}":
            return problem(401, "unauthenticated", "no such key")
        if request.path.startswith("/v1/webhooks"):
            return self.webhooks(request)
        with self._lock:
            if request.path.startswith(("/v1/files", "/v1/batches")):
                return self.batches(request)
            if request.path.startswith(("/v1/tenants", "/v1/keys", "/v1/audit")):
                return self.admin(request)
            return self._route(request)

    def _route(self, request):
        waits = "Prefer" in request.headers
        match [request.method, *request.path.strip("/").split("/")[1:]]:
            case ["POST", "jobs"]:
                return self._create(request.json, request.headers["Idempotency-Key"], waits)
            case ["GET", "jobs"]:
                return self._list(request.query)
            case ["GET", "models"]:
                return Reply(body=page([{"id": "echo", "object": "model", "version": "1"}]))
            case ["GET", "workers"]:
                worker = {
                    "id": "w1",
                    "pool": "default",
                    "purchase": "spot",
                    "state": "ready",
                    "name": "w@h/0",
                }
                return Reply(body=page([worker | {"heartbeat_at": "2026-01-31T12:00:00Z"}]))
            case [method, "jobs", job_id, *action] if job_id in self._jobs:
                return self._act(method, self._jobs[job_id], action, waits)
            case _:
                return problem(404, "not_found", "there is no such thing")

    def _create(self, body, key, waits):
        if body["model"] != "echo":
            return problem(404, "model_not_found", f"no model {body['model']}")
        if not isinstance(body["input"], dict):
            wrong = {"pointer": "/input", "code": "type", "message": "must be an object"}
            return problem(422, "invalid_input", "1 field is wrong", errors=[wrong])
        if key not in self._by_key:
            number = len(self._jobs) + 1
            made = job(id=f"job_{number:032x}", input=body["input"], status="queued")
            made["metadata"] = body.get("metadata", {})
            self._jobs[made["id"]] = self._by_key[key] = made
        made = self._by_key[key]
        if waits:
            _end(made)
        return Reply(200 if waits else 202, made)

    def _list(self, query):
        found = [
            made for made in reversed(self._jobs.values()) if query.get("status") in (None, made["status"])
        ]
        return Reply(body=page(found[: int(query["limit"])]))

    def _act(self, method, made, action, waits):
        if method == "DELETE":
            made |= {"input": None, "output": None, "metadata": {}}
        elif action == ["events"]:
            _end(made)
            events = [("status", {"status": "running"}), ("progress", {"fraction": 0.5})]
            return Reply(pieces=[sse(*events, ("completed", made))])
        elif action == ["cancel"] and made["status"] == "queued":
            made["status"] = "canceled"
        elif action == ["retry"]:
            return self._create({"model": "echo", "input": made["input"]}, object(), False)
        elif waits:
            _end(made)
        return Reply(body=made)


def _end(made):
    if made["status"] != "queued" or made["input"].get("stuck"):
        return
    status = "failed" if made["input"].get("fail") else "succeeded"
    output = made["input"] if status == "succeeded" else None
    kept = {name: made[name] for name in ("id", "input", "metadata")}
    made |= job(status, **kept, output=output)


def page(data):
    """A list that is over after these."""
    return {
        "object": "list",
        "data": data,
        "first_id": data[0]["id"] if data else None,
        "last_id": data[-1]["id"] if data else None,
        "has_more": False,
    }
