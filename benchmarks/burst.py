"""Burst: ten times what workers do is offered for a while: what is refused, and how right the forecast is."""

import json
import os
import re
import time
import urllib.request
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from app.embedded.stack import Stack as Embedded
from app.embedded.state import StateDir
from benchmarks import light_clients
from benchmarks.figures import Figure, Measured
from benchmarks.light_clients import Answer
from benchmarks.servers import SERVERS, Server, serving
from benchmarks.stack import Stack

TIMES = 10
_CLIENTS = 64
# Workers sleep, so that a busy API on the same cores does not slow them down.
_JOB: dict[str, Any] = {"model": "echo", "input": {"sleep_ms": 25}}
_TEXT: dict[str, Any] = {
    "model": "minilm",
    "input": {"text": "A mill leads the water to its wheel."},
}
_REFUSALS = (429, 503)


def run(
    stack: Stack,
    *,
    seconds: float = 10.0,
    limit_s: float = 10.0,
    job: dict[str, Any] = _JOB,
    apart: bool = False,
    name: str = "burst",
) -> Measured:
    """New jobs are refused while over `limit_s` of work waits.

    When the burst ends, the last job that was accepted is asked when it will be done, and then waited for.
    `apart`: the workers have the first core to themselves, as if they were on another machine.
    """
    body = json.dumps(job).encode()
    with serving(stack, SERVERS["gunicorn, gevent"], HEADRACE_LIMITS_WAIT_S=str(limit_s)) as server:
        if apart:
            _move_apart(stack, server)
        post = server.post(body)
        _offer(server, post, 50, 2)
        _drained(stack)
        began = time.perf_counter()
        known = _offer(server, post, 200, 2)
        _drained(stack)
        capacity = _count(known, 202) / (time.perf_counter() - began)
        answers = _offer(server, post, TIMES * capacity, seconds)
        ended, left = time.perf_counter(), stack.unfinished()
        last = next(answer for answer in reversed(answers) if answer.status == 202)
        forecast_s = _get(server, json.loads(last.body)["id"])["eta_s"] or 0.0
        _drained(stack)
        took = time.perf_counter() - ended
    refused = [answer for answer in answers if answer.status in _REFUSALS]
    told_s = _waits(refused[-1]) if refused else 0.0
    accepted = _count(answers, 202)
    return [
        Figure(name, "worked off before", capacity, "jobs/s"),
        Figure(name, f"offered for {seconds:.0f} s", len(answers) / answers[-1].at, "jobs/s"),
        Figure(name, "accepted", accepted, "jobs"),
        Figure(name, "refused with 503 or 429", len(refused), "requests"),
        Figure(name, "… without Retry-After", _silent(refused), "requests"),
        Figure(name, "answered otherwise", len(answers) - accepted - len(refused), "requests"),
        Figure(name, f"waiting at the end, with a limit of {limit_s:.0f} s", left, "jobs"),
        Figure(name, "… until all were done", took, "s"),
        Figure(name, "… forecast by the last job's eta_s", forecast_s, "s", forecast_s / took),
        Figure(name, "… forecast by the last refusal", told_s, "s", told_s / took),
    ]


run_apart = partial(run, job=_TEXT, apart=True, name="burst of minilm")
"""With a real model. On the same cores as its clients it would run faster as soon as they stop."""


def _move_apart(stack: Stack, server: Server) -> None:
    first, *others = sorted(os.sched_getaffinity(0))
    everything = [*server.process.children(recursive=True), server.process, psutil.Process()]
    workers = set[int]()
    for process in Embedded(StateDir(Path(stack.state_dir))).processes():
        if process.pid and process.name.startswith("worker-"):
            workers.add(process.pid)
        elif process.pid:
            one = psutil.Process(process.pid)
            everything += [one, *one.children(recursive=True)]
    for pid in workers | {process.pid for process in everything}:
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setaffinity(int(thread), {first} if pid in workers else others)


def _offer(server: Server, message: bytes, rate: float, seconds: float) -> list[Answer]:
    return light_clients.offer(server.url, message, rate=rate, seconds=seconds, clients=_CLIENTS)


def _count(answers: list[Answer], status: int) -> int:
    return sum(answer.status == status for answer in answers)


def _silent(refused: list[Answer]) -> int:
    return sum(b"\r\nretry-after:" not in answer.head.lower() for answer in refused)


def _waits(refused: Answer) -> float:
    """How long new work would wait, as the problem's text says."""
    said = re.search(r"about (\d+) seconds", json.loads(refused.body)["detail"])
    return float(said[1]) if said else 0.0


def _get(server: Server, job_id: str) -> dict[str, Any]:
    asked = urllib.request.Request(f"{server.url}/v1/jobs/{job_id}", headers=server.head)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


def _drained(stack: Stack) -> None:
    while stack.unfinished():
        time.sleep(0.05)
