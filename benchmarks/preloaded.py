"""Preloaded: how fast children work off `echo` jobs that wait already, without HTTP and Celery."""

import logging
import multiprocessing
import os
import time
from typing import Any

import structlog
from pydantic import SecretStr
from sqlalchemy import text

from app.db import models
from app.db.engine import connect, make_engine
from app.domain.lanes import Lane
from benchmarks.figures import Figure, Measured, percentile
from benchmarks.queue_sql import fill, own_version
from benchmarks.stack import Stack
from tests.support.crew import make_child
from workers import pipeline


def run(stack: Stack, *, count: int = 40_000, children: int = 2) -> Measured:
    """Jobs per second from claim to settle by `children` processes, and how long their claims take."""
    engine = make_engine(SecretStr(stack.database_url), lookups_only=True, statement_timeout_s=300)
    version = own_version(engine, "preloaded")
    fill(engine, version, count)
    # Not forked: no connection crosses a fork.
    context = multiprocessing.get_context("spawn")
    start, times = context.Barrier(children + 1), context.Queue()
    processes = [
        context.Process(target=_child, args=(stack, version.id, start, times), daemon=True)
        for _ in range(children)
    ]
    for process in processes:
        process.start()
    start.wait(60)
    started = time.perf_counter()
    claims = [ms for _ in processes for ms in times.get(timeout=300)]
    elapsed = time.perf_counter() - started
    for process in processes:
        process.join(30)
    with connect(engine) as connection:
        done = connection.execute(
            text(
                "SELECT count(*) FROM job_results r JOIN jobs j ON j.id = r.job_id WHERE j.version_id = :id"
            ),
            {"id": version.id},
        ).scalar_one()
    engine.dispose()
    if done != count:
        raise RuntimeError(f"{done} of {count} jobs have a result")
    subject = "preloaded"
    return [
        Figure(subject, f"echo, {count:,} waiting, {children} children", count / elapsed, "jobs/s"),
        Figure(subject, "one claim, p50", percentile(claims, 0.5), "ms"),
        Figure(subject, "one claim, p99", percentile(claims, 0.99), "ms"),
    ]


def _child(stack: Stack, version_id: int, start: Any, times: Any) -> None:
    """Drain until the queue is empty, then tell how long each claim took."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    child = make_child(stack.database_url, stack.redis_url, pid=os.getpid(), queues=("remote.interactive",))
    version = models.by_id(child.engine, version_id)
    assert version is not None
    child.runners.get(version)
    took: list[float] = []
    claim = pipeline.claim

    def timed(*arguments: Any, **options: Any) -> Any:
        began = time.perf_counter()
        claimed = claim(*arguments, **options)
        took.append((time.perf_counter() - began) * 1000)
        return claimed

    pipeline.claim = timed
    start.wait(60)
    while pipeline.drain(child, version, Lane.INTERACTIVE).ended != "empty":
        pass
    times.put(took)
    child.engine.dispose()
