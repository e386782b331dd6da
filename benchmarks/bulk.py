"""Bulk: `echo` lines from the POST of the batch to its finished files, and who waits for an answer."""

import io
import statistics
import time
from concurrent.futures import ThreadPoolExecutor

from celery.result import ResultSet
from headrace import Batch, Client

from benchmarks.baselines.celery_task import bare_celery, echo
from benchmarks.figures import Figure, Measured, percentile, time_each
from benchmarks.stack import Stack

_IDLE = 300
_BARE = 5000
_CHILDREN = 2
_LOOK_S = 0.05


def run(stack: Stack, *, count: int = 20_000) -> Measured:
    """Items per second; the ratio is to one Celery message per item. And an interactive job's round trip,
    idle and while a batch runs; the ratio is of the two p99.
    """
    lines = b"".join(
        b'{"custom_id":"%d","method":"POST","url":"/v1/jobs","body":{"model":"echo","input":{"n":%d}}}\n'
        % (number, number)
        for number in range(count)
    )
    with Client(stack.url, stack.api_key) as client:
        file_id = client.files.create(io.BytesIO(lines), filename="echo.jsonl").id
        idle = time_each(lambda: client.run("echo", {"n": 1}), _IDLE)
        started = time.perf_counter()
        finished(client, file_id)
        rate = count / (time.perf_counter() - started)
        busy = _beside(client, file_id)
    bare = _message_each(stack.redis_url, min(count, _BARE))
    idle_p99, busy_p99 = percentile(idle, 0.99), percentile(busy, 0.99)
    return [
        Figure("bulk", "one Celery message per item", bare, "items/s"),
        Figure("bulk", f"a file of {count:,} lines", rate, "items/s", rate / bare),
        Figure("bulk", "interactive echo, p50, idle", statistics.median(idle), "ms"),
        Figure("bulk", "interactive echo, p50, beside a file", statistics.median(busy), "ms"),
        Figure("bulk", "interactive echo, p99, idle", idle_p99, "ms"),
        Figure("bulk", "interactive echo, p99, beside a file", busy_p99, "ms", busy_p99 / idle_p99),
    ]


def _message_each(redis_url: str, count: int) -> float:
    """Items per second of a bare Celery worker with as many children, from the first to the last result."""
    with bare_celery(redis_url, _CHILDREN) as call:
        call()
        started = time.perf_counter()
        sent = ResultSet([echo.apply_async(({"n": number},), queue="bare") for number in range(count)])
        sent.join_native(timeout=600)
        return count / (time.perf_counter() - started)


def finished(client: Client, file_id: str) -> Batch:
    """Run a file. Raises unless all of it succeeded."""
    batch = client.batches.create(file_id)
    # `wait` would ask ever less often, every two seconds at last.
    while not batch.refresh().done:
        time.sleep(_LOOK_S)
    if batch.counts != {**dict.fromkeys(batch.counts, 0), "succeeded": batch.total}:
        raise RuntimeError(f"{batch.id} {batch.status}: {batch.counts}")
    return batch


def _beside(client: Client, file_id: str) -> list[float]:
    """Milliseconds of each round trip of an interactive job, one after the other, while a batch runs."""
    with ThreadPoolExecutor(1) as pool:
        batch, times = pool.submit(finished, client, file_id), []
        while not batch.done():
            times += time_each(lambda: client.run("echo", {"n": 1}), 1, warm_up=0)
        batch.result()
        return times
