"""Planning: how well a child predicts its micro-batches, how much it pads, and what is left of the raw loop.

One child in this process works off `minilm` jobs that wait already, on the stack's Postgres: no HTTP and no
Celery.
"""

import logging
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import orjson
import structlog
import torch
from pydantic import SecretStr
from sqlalchemy import text

from app.db import models
from app.db.engine import Engine, connect, make_engine
from app.domain.ids import new_uuid
from app.domain.lanes import Device, Lane
from app.domain.model import ModelVersion
from benchmarks.backlog import log_normal_texts
from benchmarks.baselines.torch_loop import sorted_loop
from benchmarks.figures import Figure, Measured
from benchmarks.stack import Stack
from tests.support.crew import make_child
from workers import pipeline

LEARNED = 50
"""Micro-batches after which the cost model should know."""

_FILL = text(
    """
    WITH made AS (
        INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
                          execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms)
        SELECT uuidv7(), 0, :version_id, 1, 1, CAST(input AS json), '', now() + interval '1 hour', 60, 1, 1, 1
          FROM unnest(CAST(:inputs AS text[])) AS input
        RETURNING id, version_id, lane, priority, expires_at
    )
    INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at)
    SELECT id, version_id, lane, priority, row_number() OVER (), expires_at FROM made
    """
)


@dataclass
class Seen:
    """What the planned micro-batches were: seconds predicted and taken, units asked and computed."""

    predicted: list[float] = field(default_factory=list)
    took: list[float] = field(default_factory=list)
    asked: int = 0
    padded: int = 0
    spans: list[tuple[str, float, float]] = field(default_factory=list)
    """(verb, begin, end) of everything the child did, in seconds."""


def run(stack: Stack, *, count: int = 1200) -> Measured:
    """Median error of the last predictions, padding, and texts per second beside the plain sorted loop."""
    texts = log_normal_texts(count)
    loop = sorted_loop(texts)
    seen, rate = drain_texts(stack.database_url, stack.redis_url, texts)
    errors = [abs(took - said) / said for said, took in zip(seen.predicted, seen.took, strict=True)][LEARNED:]
    error = statistics.median(errors or [0.0])
    return [
        Figure("planning", f"median prediction error after {LEARNED} micro-batches", 100 * error, "%"),
        Figure("planning", "padding of units computed", 100 * (1 - seen.asked / seen.padded), "%"),
        Figure("planning", "mean micro-batch", count / len(seen.took), "jobs"),
        Figure("planning", "one child, jobs that wait", rate, "texts/s", rate / loop),
    ]


def drain_texts(database_url: str, redis_url: str, texts: list[str]) -> tuple[Seen, float]:
    """One child drains these as `minilm` jobs of the batch lane; what it did, and texts per second."""
    # Where the child would log is this terminal.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    engine = make_engine(SecretStr(database_url), lookups_only=True)
    version = _own_version(engine)
    torch.set_num_threads(1)
    child = make_child(database_url, redis_url, queues=("remote.batch",))
    child.settings = child.settings.model_copy(update={"slice_s": 600.0})
    child.runners.get(version)
    with watching(child.runners.get(version)) as seen:
        # The first micro-batch teaches nothing, and is no part of the rate either.
        _fill(engine, version, texts[:2])
        pipeline.drain(child, version, Lane.BATCH)
        seen.predicted, seen.took, seen.asked, seen.padded, seen.spans = [], [], 0, 0, []
        _fill(engine, version, texts)
        started = time.perf_counter()
        report = pipeline.drain(child, version, Lane.BATCH)
        elapsed = time.perf_counter() - started
    child.stop()
    engine.dispose()
    if report.jobs != len(texts):
        raise RuntimeError(f"{report.jobs} of {len(texts)} jobs were run")
    return seen, report.jobs / elapsed


@contextmanager
def watching(runner: Any) -> Iterator[Seen]:
    """Notes what the pipeline does, from outside."""
    seen, before = Seen(), {}

    def timed(name: str, call: Any) -> Any:
        def wrapper(*arguments: Any, **options: Any) -> Any:
            begin = time.perf_counter()
            try:
                return call(*arguments, **options)
            finally:
                seen.spans.append((name, begin, time.perf_counter()))

        return wrapper

    observe = runner.costs.observe

    def observed(items: int, padded_units: int, seconds: float) -> Any:
        predicted = observe(items, padded_units, seconds)
        seen.predicted.append(predicted or seconds)
        seen.took.append(seconds)
        return predicted

    def planned(*arguments: Any) -> Any:
        micro_batches, refused = before["batch"](*arguments)
        for micro_batch in micro_batches:
            seen.asked += sum(job.units for job in micro_batch.jobs)
            seen.padded += micro_batch.padded_units
        return micro_batches, refused

    for name in ("claim", "batch", "_mark", "infer", "settle"):
        before[name] = getattr(pipeline, name)
        setattr(pipeline, name, timed(name.strip("_"), planned if name == "batch" else before[name]))
    runner.costs.observe = observed
    try:
        yield seen
    finally:
        del runner.costs.observe
        for name, call in before.items():
            setattr(pipeline, name, call)


def _fill(engine: Engine, version: ModelVersion, texts: list[str]) -> None:
    inputs = [orjson.dumps({"text": each}).decode() for each in texts]
    with connect(engine) as connection:
        connection.execute(_FILL, {"version_id": version.id, "inputs": inputs})


def _own_version(engine: Engine) -> ModelVersion:
    """`minilm` for a kind of device that no worker of the stack has, so that only we claim its jobs."""
    minilm = models.find(engine, "minilm", None)
    assert minilm is not None
    label = new_uuid().hex[:8]
    spec = replace(minilm.spec, name="benchmark-planning", version=label, device=Device.REMOTE)
    models.register(engine, spec, actor="benchmark")
    version = models.find(engine, spec.name, spec.version)
    assert version is not None
    return version
