"""Idle latency: one job at a time, from POST to the answer that holds its result."""

import http.client
import json
import socket
from urllib.parse import urlsplit

from benchmarks.baselines.celery_task import bare_celery
from benchmarks.figures import Figure, Measured, percentile, time_each
from benchmarks.stack import Stack


def run(stack: Stack, *, count: int = 300) -> Measured:
    """p50 and p99 of `echo` and `minilm`, and of a bare Celery task beside them."""
    with bare_celery(stack.redis_url) as call:
        celery = time_each(call, count)
    echo = time_each(poster(stack, "echo", {"n": 1}), count)
    minilm = time_each(poster(stack, "minilm", {"text": "a headrace feeds a mill wheel"}), count // 3)
    base = percentile(celery, 0.5)
    return [
        Figure("idle latency", "bare Celery task, p50", base, "ms"),
        Figure("idle latency", "echo, p50", percentile(echo, 0.5), "ms", base / percentile(echo, 0.5)),
        Figure("idle latency", "echo, p99", percentile(echo, 0.99), "ms"),
        Figure("idle latency", "minilm, p50", percentile(minilm, 0.5), "ms"),
    ]


def poster(stack: Stack, model: str, value: object):  # type: ignore[no-untyped-def]
    """A call that submits one job over one kept connection and waits for its result."""
    connection = http.client.HTTPConnection(urlsplit(stack.url).netloc)
    connection.connect()
    assert connection.sock is not None
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    body = json.dumps({"model": model, "input": value})
    headers = {
        "Authorization": f"Bearer {stack.api_key}",
        "Content-Type": "application/json",
        "Prefer": "wait=30",
    }

    def post() -> None:
        connection.request("POST", "/v1/jobs", body, headers)
        answer = connection.getresponse()
        job = json.loads(answer.read())
        if answer.status != 200 or job["status"] != "succeeded":
            raise RuntimeError(f"{answer.status}: {job}")

    return post
