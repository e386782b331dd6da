"""Many of everything: each step of the queue and its upkeep, with many tenants, versions, children, batches
and endpoints, against as many jobs, results and deliveries of one tenant and version with two children.
"""

import gc
import logging
import statistics
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

import orjson
import psutil
import redis
import structlog
from pydantic import SecretStr

from app.broker.ring import Ringer, doorbell_for
from app.db import models, workers
from app.db.engine import make_engine
from app.domain.ids import new_uuid
from app.domain.lanes import Lane
from app.domain.stages import WorkerIdentity
from app.factory import create_app
from app.intake.keys import hash_secret
from app.observability import metrics
from app.settings import Settings
from benchmarks import many_rows
from benchmarks.figures import Figure, Measured
from benchmarks.many_rows import Size
from benchmarks.many_steps import Filled, steps_of
from benchmarks.stack import Stack
from workers.maintenance.measure import Measure
from workers.maintenance.sweep import Sweep

_PEPPER, _SECRET = "for-benchmarks-only-" + "x" * 32, "secret"
_BODY = b'{"model":"%s","input":{"text":"some","n":1}}'
LARGE = Size(5000, 1000, 200, 5000, 4, 200_000, 3_000_000, 10, 100_000, 500, 2000)


def run(
    stack: Stack,
    *,
    size: Size = Size(),  # noqa: B008 - frozen
    rounds: int = 10,
    seconds: float = 10.0,
) -> Measured:
    """Milliseconds of each step, the median of as many rounds; how they compare is few / many."""
    figures: list[Figure] = []
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with _filled(stack, "one", size.of_one()) as one, _filled(stack, "many", size) as many:
        few_steps, many_steps = steps_of(one), steps_of(many)
        for name, step in many_steps.items():
            before, after = list[float](), list[float]()
            for number in range(rounds + 2):
                for call, into in ((few_steps[name], before), (step, after)):
                    took = _timed(call)
                    if number >= 2 or took > 2000:  # before that, plans are made and pages read
                        into.append(took)
                if sum(after) > 2000 and before:
                    break
            first, last = statistics.median(before), statistics.median(after)
            figures.append(Figure("many", name, last, "ms", first / last))
        figures += _processes(one, many, stack)
        figures += _bells(many, stack, seconds)
    return figures


@contextmanager
def _filled(stack: Stack, name: str, size: Size) -> Iterator[Filled]:
    url = many_rows.make(stack.database_url, f"benchmark_{name}", size, hash_secret(_PEPPER, _SECRET))
    hot = make_engine(SecretStr(url), lookups_only=True, statement_timeout_s=600)
    plain = make_engine(SecretStr(url), statement_timeout_s=600)
    queues = ("remote.interactive", "remote.batch")
    worker = WorkerIdentity(new_uuid(), "worker", "here", 0, "default", "on_demand", "cpu", queues)
    workers.register(hot, worker)
    try:
        yield Filled(url, size, hot, plain, worker)
    finally:
        hot.dispose()
        plain.dispose()


def _timed(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _processes(one: Filled, many: Filled, stack: Stack) -> Measured:
    """What whole parts of a process cost: scheduler and API, the API driven by every tenant in turn."""
    figures = list[Figure]()
    client = redis.Redis.from_url(stack.redis_url)
    ringer = Ringer(SecretStr(stack.redis_url))
    before = client.dbsize()
    for name, make in (
        ("sweep with its bells", lambda db: Sweep(db.plain, ringer, 5.0)),
        ("measure", lambda db: Measure(db.plain)),
    ):
        timed = []
        for db in (one, many):
            service = make(db)
            service.run_once()
            timed.append(statistics.median(_timed(service.run_once) for _ in range(5)))
        figures.append(Figure("many", name, timed[1], "ms", timed[0] / timed[1]))
    figures.append(Figure("many", "keys in Redis for it", client.dbsize() - before, "keys"))
    figures.append(Figure("many", "the scheduler's /metrics", len(metrics.exposition()) / 1000, "kB"))
    figures.append(Figure("many", "time to make it", _timed(metrics.exposition), "ms"))
    few, api = _api(one, stack, many.size.tenants), _api(many, stack, many.size.tenants)
    for what, value, base, unit in (
        ("a POST in the process", api.own_ms, few.own_ms, "ms CPU"),
        ("a POST in Postgres", api.postgres_ms, few.postgres_ms, "ms CPU"),
        ("statements for a POST", api.statements, few.statements, "statements"),
    ):
        figures.append(Figure("many", what, value, unit, base / value if value else None))
    figures.append(Figure("many", "memory of the API for all tenants", api.grown_mb, "MiB"))
    figures.append(Figure("many", "more of it for as many requests again", api.grown_again_mb, "MiB"))
    return figures


def _bells(db: Filled, stack: Stack, seconds: float) -> Measured:
    """What waits in a queue for whose busy versions more bells ring than are heard, ten a second."""
    client, ringer = redis.Redis.from_url(stack.redis_url), Ringer(SecretStr(stack.redis_url))
    bells = {
        version.id: doorbell_for(version, Lane.INTERACTIVE)
        for version, _ in models.list_all(db.plain)
        if version.id <= db.size.busy
    }
    queue = bells[1].queue
    client.delete(queue, *client.keys("bell:*"))
    began, heard = time.monotonic(), 0
    while (now := time.monotonic()) < began + seconds:
        for bell in bells.values():
            ringer.ring(bell)
        while heard < (now - began) * 10 and (message := client.rpop(queue)):
            heard += 1
            _, arguments, _ = orjson.loads(b64decode(orjson.loads(message)["body"]))
            ringer.clear(bells[arguments["version_id"]])
        time.sleep(0.2)
    waits = client.llen(queue)
    alone = statistics.median(_timed(lambda: ringer.ring(bells[1])) for _ in range(200))
    for child in range(db.size.children):
        member = f"{2 + child}:{new_uuid().hex}"
        client.sadd(f"linger:{queue}", member)
        client.sadd(f"linger:{queue}:{2 + child}", member)
    among = statistics.median(_timed(lambda: ringer.ring(bells[1])) for _ in range(200))
    client.delete(queue, *client.keys("bell:*"), *client.keys(f"linger:{queue}*"))
    name = f"bells before a rare version's, {seconds:.0f} s"
    return [
        Figure("many", name, waits, "bells", len(bells) / max(1, waits)),
        Figure("many", "a ring while every child lingers", among, "ms", alone / among),
    ]


def _api(db: Filled, stack: Stack, requests: int) -> Any:
    """One process's API in this one. Each request is of the next tenant, for the next of the busy models."""
    app = create_app(
        Settings(
            database_url=SecretStr(db.url),
            redis_url=SecretStr(stack.redis_url),
            secret_key=SecretStr(_PEPPER),
        )
    )
    client = app.test_client()
    gc.collect()
    process = psutil.Process()

    def post(count: int) -> None:
        for number in range(count):
            tenant, model = 1 + number % db.size.tenants, 1 + number % db.size.busy
            answer = client.post(
                "/v1/jobs",
                data=_BODY % f"model-{model}".encode(),
                headers={"Authorization": f"Bearer hr_many{tenant}_{_SECRET}"},
                content_type="application/json",
            )
            assert answer.status_code == 202, answer.text

    post(50)
    memory = process.memory_info().rss
    post(requests)
    middle = process.memory_info().rss
    spent, theirs, said = time.process_time(), _postgres_s(db), _statements(db)
    post(requests)
    return SimpleNamespace(
        own_ms=(time.process_time() - spent) * 1000 / requests,
        postgres_ms=(_postgres_s(db) - theirs) * 1000 / requests,
        statements=(_statements(db) - said) / requests,
        grown_mb=(middle - memory) / 2**20,
        grown_again_mb=(process.memory_info().rss - middle) / 2**20,
    )


def _postgres_s(db: Filled) -> float:
    """CPU seconds of the database's backends so far."""
    pids = db.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    times = [psutil.Process(row.pid).cpu_times() for row in pids]
    return sum(each.user + each.system for each in times)


def _statements(db: Filled) -> int:
    """Statements that ended in this database so far, each a transaction of its own."""
    (row,) = db.execute("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
    return int(row.xact_commit)
