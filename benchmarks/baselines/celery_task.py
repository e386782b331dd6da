"""What one would glue together by hand: a Celery task with a result backend, and a Flask front."""

import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any

from celery import Celery
from flask import Flask, jsonify, request

URL = "BENCHMARK_CELERY_URL"

app = Celery("bare", broker=os.environ.get(URL), backend=os.environ.get(URL))
app.conf.worker_hijack_root_logger = False
front = Flask("bare")


@app.task(name="bare.echo")
def echo(value: object) -> object:
    """Answers with its argument."""
    return value


@front.post("/jobs")
def submit() -> tuple[Any, int]:
    """Send the task; with `?wait` answer with its result, else with its id."""
    sent = echo.apply_async((request.get_json()["input"],), queue="bare")
    if "wait" in request.args:
        return jsonify(id=sent.id, output=sent.get(timeout=60)), 200
    return jsonify(id=sent.id), 202


@contextmanager
def bare_celery(redis_url: str, children: int = 1) -> Iterator[Callable[[], object]]:
    """A call that sends one task to a running worker and waits for its result."""
    app.conf.update(broker_url=redis_url, result_backend=redis_url)
    command = ["celery", "-A", "benchmarks.baselines.celery_task:app", "worker", "-c", str(children)]
    command += ["-Q", "bare", "--loglevel", "ERROR", "--without-mingle", "--without-gossip"]
    with _running(command, redis_url):
        yield lambda: echo.apply_async(({"n": 1},), queue="bare").get(timeout=60)


@contextmanager
def flask_and_celery(redis_url: str, processes: int) -> Iterator[str]:
    """The URL of the Flask front, with as many processes as the worker has children."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = ["gunicorn", "--bind", address, "-w", str(processes), "-k", "gthread", "--threads", "16"]
    command += ["--keep-alive", "75", "--log-level", "error", "benchmarks.baselines.celery_task:front"]
    with bare_celery(redis_url, processes) as call, _running(command, redis_url):
        call()
        until = monotonic() + 30
        while not _answers(f"http://{address}/jobs"):
            if monotonic() > until:
                raise RuntimeError("the Flask front did not start")
            sleep(0.1)
        yield f"http://{address}"


def _answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=1)
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


@contextmanager
def _running(command: Sequence[str], redis_url: str) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        env={**os.environ, URL: redis_url},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)
