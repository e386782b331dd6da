"""Single jobs: `echo` over HTTP, one request a job, from 32 light clients, until the last result is there."""

import time
from collections.abc import Callable

import redis

from app.cores import cores
from benchmarks import light_clients
from benchmarks.baselines.celery_task import flask_and_celery
from benchmarks.figures import Figure, Measured, percentile
from benchmarks.stack import Stack

CLIENTS = 32
_BODY = b'{"model":"echo","input":{"n":1}}'


def run(stack: Stack, *, seconds: float = 5.0) -> Measured:
    """Jobs per second from the first POST to the last result, and with each POST held until its result.

    The baseline is what people write: Flask, a Celery task a request, and a result backend, with as many
    processes and on the same Valkey.
    """
    processes = cores()
    head = {"Authorization": f"Bearer {stack.api_key}"}
    post = light_clients.request(stack.url, "/v1/jobs", _BODY, head)
    held = light_clients.request(stack.url, "/v1/jobs", _BODY, {**head, "Prefer": "wait=30"})
    light_clients.send(stack.url, held, clients=CLIENTS, seconds=1.0)  # warms everything up
    rate = _until_done(stack.url, post, seconds, stack.unfinished)
    waited = light_clients.send(stack.url, held, clients=CLIENTS, seconds=seconds)
    with flask_and_celery(stack.redis_url, processes) as url:
        base_post = light_clients.request(url, "/jobs", _BODY, {})
        base_held = light_clients.request(url, "/jobs?wait", _BODY, {})
        light_clients.send(url, base_held, clients=CLIENTS, seconds=1.0)
        with redis.Redis.from_url(stack.redis_url) as client:
            base = _until_done(url, base_post, seconds, lambda: int(client.llen("bare")))
        base_waited = light_clients.send(url, base_held, clients=CLIENTS, seconds=seconds)
    subject = "single jobs"
    held_rate, base_held_rate = waited.count / waited.seconds, base_waited.count / base_waited.seconds
    return [
        Figure(subject, "Flask + Celery, submitted and worked off", base, "jobs/s"),
        Figure(subject, "echo, submitted and worked off", rate, "jobs/s", rate / base),
        Figure(subject, "Flask + Celery, held until the result", base_held_rate, "jobs/s"),
        Figure(subject, "echo, held until the result", held_rate, "jobs/s", held_rate / base_held_rate),
        Figure(subject, "echo, held, p50", percentile(waited.latencies_ms, 0.5), "ms"),
        Figure(subject, "echo, held, p99", percentile(waited.latencies_ms, 0.99), "ms"),
    ]


def _until_done(url: str, message: bytes, seconds: float, left: Callable[[], int]) -> float:
    """Jobs per second until nothing is `left`."""
    started = time.perf_counter()
    submitted = light_clients.send(url, message, clients=CLIENTS, seconds=seconds)
    while left():
        time.sleep(0.02)
    return submitted.count / (time.perf_counter() - started)
