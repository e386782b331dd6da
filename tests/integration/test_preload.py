"""A child loads and warms up what it is told to before it claims anything."""

import threading
from dataclasses import replace
from typing import Any

from app.db import models
from app.domain.lanes import Device
from app.settings import Worker as WorkerSettings
from tests.support.crew import make_child, register
from tests.support.jobs import Queue
from tests.support.models import ECHO_SPEC
from workers.child import Child


def child_of(queue: Queue, database_url: str, redis_url: str, *preload: str) -> Child:
    return make_child(database_url, redis_url, settings=WorkerSettings(linger_s=0, preload=preload))


def loaded(child: Child) -> dict[str, Any]:
    child.preload(threading.Event())
    return child.runners.status()


def test_named_versions_are_loaded_and_one_that_fails_is_no_end(
    queue: Queue, database_url: str, redis_url: str
) -> None:
    register(queue, "Double")
    register(queue, "Unloadable")
    status = loaded(
        child_of(queue, database_url, redis_url, "nobody-knows", "unloadable", "double@1", "echo")
    )
    assert {name: entry["state"] for name, entry in status.items()} == {
        "unloadable@1": "failed",
        "double@1": "loaded",
        "echo@1": "loaded",
    }


def test_all_are_those_that_its_queues_serve_and_that_fit(
    queue: Queue, database_url: str, redis_url: str
) -> None:
    for name, changes in {"huge": {"memory_mb": 10_000}, "elsewhere": {"device": Device.GPU}}.items():
        models.register(queue.engine, replace(ECHO_SPEC, name=name, **changes), actor="test")
    models.add(queue.engine, replace(ECHO_SPEC, version="2"), actor="test")
    assert set(loaded(child_of(queue, database_url, redis_url, "all"))) == {"echo@1"}


def test_no_drain_begins_while_it_loads(queue: Queue, database_url: str, redis_url: str) -> None:
    register(queue, "Double")
    child = child_of(queue, database_url, redis_url, "double")
    seen = []
    load = child.runners.get
    child.runners.get = lambda version: seen.append(child.busy.locked()) or load(version)  # type: ignore
    holding = threading.Event()
    child.preload(holding)
    assert holding.is_set()
    assert seen == [True]
    assert not child.busy.locked()


def test_postgres_away_costs_the_warm_up_and_nothing_else(redis_url: str) -> None:
    child = make_child(
        "postgresql://nobody@127.0.0.1:1/nowhere", redis_url, settings=WorkerSettings(preload=("all",))
    )
    assert loaded(child) == {}
