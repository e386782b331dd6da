"""16 clients with a connection each, and what they measure. The same for every peer, and light."""

import http.client
import io
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import local
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from headrace import Client

from benchmarks.bulk import finished
from benchmarks.peers.servers import Peer
from benchmarks.stack import Stack

CLIENTS = 16
_JSON = {"Content-Type": "application/json"}
_HELD = {"Prefer": "wait=60"}
_POLL_S = 0.1
"""Often enough to see the end, too seldom to be in the way of the work."""


def texts_per_second(peer: Peer, url: str, texts: Sequence[str]) -> float:
    """Every text once, by 16 clients, until the last result is there."""
    client = _Client(url)
    with ThreadPoolExecutor(CLIENTS) as pool:
        started = time.perf_counter()
        if peer.polled:
            tasks = list(pool.map(lambda text: client.post(peer, text)["id"], texts))
            list(pool.map(client.poll, tasks))
        else:
            list(pool.map(lambda text: client.post(peer, text), texts))
        return len(texts) / (time.perf_counter() - started)


def idle_ms(peer: Peer, url: str, texts: Sequence[str]) -> list[float]:
    """One client, one text after the other: milliseconds until each result is there."""
    client, times = _Client(url), []
    for text in texts:
        started = time.perf_counter()
        answer = client.post(peer, text)
        if peer.polled:
            client.poll(answer["id"], every_s=0.001)
        times.append((time.perf_counter() - started) * 1000)
    return times


def headrace_rate(stack: Stack, model: str, texts: Sequence[str]) -> float:
    """As `texts_per_second`, of Headrace's single jobs: all are submitted, then each is waited for."""
    client = _Client(stack.url, stack.api_key)
    with ThreadPoolExecutor(CLIENTS) as pool:
        started = time.perf_counter()
        jobs = list(pool.map(lambda text: client.submit(model, text)["id"], texts))
        list(pool.map(client.wait, jobs))
        return len(texts) / (time.perf_counter() - started)


def headrace_idle(stack: Stack, model: str, texts: Sequence[str]) -> list[float]:
    """As `idle_ms`, of Headrace's single jobs: a request each, held until the result is there."""
    client, times = _Client(stack.url, stack.api_key), []
    for text in texts:
        started = time.perf_counter()
        job = client.submit(model, text, held=True)
        times.append((time.perf_counter() - started) * 1000)
        if job["status"] != "succeeded":
            raise RuntimeError(f"the job is {job['status']}")
    return times


def bulk_rate(client: Client, model: str, texts: Sequence[str]) -> float:
    """One file of texts, from the POST of the batch to its finished files."""
    lines = (
        {"custom_id": str(number), "url": "/v1/jobs", "body": {"model": model, "input": {"text": text}}}
        for number, text in enumerate(texts)
    )
    written = "".join(json.dumps(line | {"method": "POST"}) + "\n" for line in lines).encode()
    file_id = client.files.create(io.BytesIO(written), filename="texts.jsonl").id
    started = time.perf_counter()
    finished(client, file_id)
    return len(texts) / (time.perf_counter() - started)


class _Client:
    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._address = urlsplit(url).netloc
        self._headers = _JSON | ({"Authorization": f"Bearer {api_key}"} if api_key else {})
        self._own = local()

    def post(self, peer: Peer, text: str) -> Any:
        return self._ask("POST", peer.path, peer.body(text))[1]

    def poll(self, task: str, every_s: float = _POLL_S) -> None:
        while self._ask("GET", f"/tasks/{task}", None)[0] != 200:
            time.sleep(every_s)

    def submit(self, model: str, text: str, *, held: bool = False) -> Any:
        body = json.dumps({"model": model, "input": {"text": text}}).encode()
        return self._ask("POST", "/v1/jobs", body, _HELD if held else {})[1]

    def wait(self, job: str) -> None:
        while (status := self._ask("GET", f"/v1/jobs/{job}", None, _HELD)[1]["status"]) != "succeeded":
            if status not in ("queued", "running"):
                raise RuntimeError(f"the job is {status}")

    def _ask(
        self, method: str, path: str, body: bytes | None, more: Mapping[str, str] = MappingProxyType({})
    ) -> tuple[int, Any]:
        for again in (True, False):
            if not hasattr(self._own, "connection"):
                self._own.connection = http.client.HTTPConnection(self._address, timeout=300)
            try:
                self._own.connection.request(method, path, body, self._headers | more)
                answer = self._own.connection.getresponse()
                status, content = answer.status, answer.read()
                break
            except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
                # A server may close an idle connection.
                del self._own.connection
                if not again:
                    raise
        if status >= 300:
            raise RuntimeError(f"{method} {path}: {status} {content[:200]!r}")
        return status, json.loads(content)
