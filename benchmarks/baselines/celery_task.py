"""A bare Celery task with a result backend: what one would glue together by hand."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from celery import Celery

URL = "BENCHMARK_CELERY_URL"

app = Celery("bare", broker=os.environ.get(URL), backend=os.environ.get(URL))
app.conf.worker_hijack_root_logger = False


@app.task(name="bare.echo")
def echo(value: object) -> object:
    """Answers with its argument."""
    return value


@contextmanager
def bare_celery(redis_url: str) -> Iterator[Callable[[], object]]:
    """A call that sends one task to a running worker and waits for its result."""
    app.conf.update(broker_url=redis_url, result_backend=redis_url)
    command = f"{sys.executable} -m celery -A benchmarks.baselines.celery_task:app worker -c 1 -Q bare"
    worker = subprocess.Popen(
        [*command.split(), "--loglevel", "ERROR", "--without-mingle", "--without-gossip"],
        env={**os.environ, URL: redis_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield lambda: echo.apply_async(({"n": 1},), queue="bare").get(timeout=60)
    finally:
        worker.terminate()
        worker.wait(30)
