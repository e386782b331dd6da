"""An idle child lingers for the next job of its model: bells reach it without Celery, and none is lost."""

import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from uuid import UUID

import pytest
import redis
from pydantic import SecretStr

from app.broker.ring import Ringer, doorbell_for
from app.domain.ids import new_uuid
from app.domain.lanes import Lane
from app.settings import Worker as WorkerSettings
from tests.support.crew import make_child
from tests.support.jobs import Queue
from tests.support.waiting import wait_until
from workers.pipeline import drain

QUEUE = "cpu.interactive"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as executor:
        yield executor


@pytest.fixture
def ringer(redis_url: str) -> Ringer:
    return Ringer(SecretStr(redis_url))


def lingering(redis_url: str) -> int:
    with redis.Redis.from_url(redis_url) as client:
        return int(client.scard(f"linger:{QUEUE}"))


def linger(
    pool: ThreadPoolExecutor, ringer: Ringer, redis_url: str, version_id: int, seconds: float = 0.9
) -> "Future[bool]":
    """Linger in another thread; returns once the child is listed."""
    before = lingering(redis_url)
    future = pool.submit(ringer.linger, version_id, QUEUE, new_uuid(), seconds)
    wait_until(lambda: lingering(redis_url) > before, 5, "the child to linger")
    return future


def test_a_bell_reaches_a_lingering_child_without_a_message(
    queue: Queue, ringer: Ringer, redis_url: str, pool: ThreadPoolExecutor
) -> None:
    child = linger(pool, ringer, redis_url, queue.echo.id)
    assert ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
    assert child.result(5) is True
    assert ringer.waiting(QUEUE) == 0
    assert lingering(redis_url) == 0


def test_the_second_bell_does_not_count_on_the_same_child(
    queue: Queue, ringer: Ringer, redis_url: str, pool: ThreadPoolExecutor
) -> None:
    child = linger(pool, ringer, redis_url, queue.echo.id)
    for _ in range(2):
        ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
    assert child.result(5) is True
    assert ringer.waiting(QUEUE) == 1


def test_another_models_bell_gets_the_slot(
    queue: Queue, ringer: Ringer, redis_url: str, pool: ThreadPoolExecutor
) -> None:
    child = linger(pool, ringer, redis_url, queue.echo.id)
    other = replace(queue.echo, id=queue.echo.id + 1000)
    ringer.ring(doorbell_for(other, Lane.INTERACTIVE))
    assert child.result(5) is False
    assert ringer.waiting(QUEUE) == 1


def test_versions_whose_numbers_begin_alike_are_told_apart(
    queue: Queue, ringer: Ringer, redis_url: str, pool: ThreadPoolExecutor
) -> None:
    child = linger(pool, ringer, redis_url, version_id=10)
    ringer.ring(doorbell_for(replace(queue.echo, id=1), Lane.INTERACTIVE))
    assert child.result(5) is False
    assert ringer.waiting(QUEUE) == 1


def test_however_many_linger_a_ring_reads_no_list_of_them(
    queue: Queue, ringer: Ringer, redis_url: str, pool: ThreadPoolExecutor
) -> None:
    """Redis does one thing at a time: with a thousand that linger a list would cost each ring half a
    millisecond.
    """
    with redis.Redis.from_url(redis_url) as client:
        for number in range(1000, 1200):
            for listed in (f"linger:{QUEUE}", f"linger:{QUEUE}:{number}"):
                client.sadd(listed, f"{number}:{new_uuid().hex}")
        child = linger(pool, ringer, redis_url, queue.echo.id)
        client.config_resetstat()
        ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
        assert child.result(5) is True
        ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
        calls = {name: stats["calls"] for name, stats in client.info("commandstats").items()}
    assert "cmdstat_smembers" not in calls
    assert calls["cmdstat_spop"] <= 4
    assert lingering(redis_url) == 199, "one of another version leaves for the bell that nobody heard"


def test_who_lingers_no_more_is_not_nudged_for_its_version(
    queue: Queue, ringer: Ringer, redis_url: str
) -> None:
    """As a process of an earlier release leaves it: off the queue's list, and still on the version's."""
    with redis.Redis.from_url(redis_url) as client:
        client.sadd(f"linger:{QUEUE}:{queue.echo.id}", f"{queue.echo.id}:{new_uuid().hex}")
    ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
    assert ringer.waiting(QUEUE) == 1


def test_nobody_lingers_while_a_bell_is_unanswered(queue: Queue, ringer: Ringer) -> None:
    """It would keep the slot that could answer it."""
    other = replace(queue.echo, id=queue.echo.id + 1)
    ringer.ring(doorbell_for(other, Lane.INTERACTIVE))
    assert ringer.linger(queue.echo.id, QUEUE, new_uuid(), 0.9) is False
    ringer.clear(doorbell_for(other, Lane.INTERACTIVE))
    assert not ringer.rung(QUEUE)


def test_a_child_without_jobs_answers_its_own_versions_bell_itself(queue: Queue, ringer: Ringer) -> None:
    """Its message stays on its way, and so the next bells send none."""
    bell = doorbell_for(queue.echo, Lane.INTERACTIVE)
    for _ in range(3):
        ringer.ring(bell)
        assert ringer.linger(queue.echo.id, QUEUE, new_uuid(), 0.05) is True
    assert ringer.linger(queue.echo.id, QUEUE, new_uuid(), 0.05) is False
    assert ringer.waiting(QUEUE) == 1


def test_nobody_rings_and_the_child_goes(ringer: Ringer, redis_url: str) -> None:
    assert ringer.linger(1, QUEUE, UUID(int=1), 0.05) is False
    assert lingering(redis_url) == 0


def test_leaving_and_ringing_at_once_lose_no_bell(
    queue: Queue, ringer: Ringer, redis_url: str, pool: ThreadPoolExecutor
) -> None:
    """However leaving and ringing interleave: a child is told, or a message waits."""
    bell = doorbell_for(queue.echo, Lane.INTERACTIVE)
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(60):
            client.flushall()
            start = threading.Barrier(2)

            def leave(start: threading.Barrier = start) -> bool:
                start.wait(5)
                return ringer.linger(queue.echo.id, QUEUE, new_uuid(), 0.002)

            child = pool.submit(leave)
            start.wait(5)
            ringer.ring(bell)
            assert child.result(5) or ringer.waiting(QUEUE) == 1


def test_without_redis_nobody_lingers() -> None:
    assert Ringer(SecretStr("redis://127.0.0.1:1/0")).linger(1, QUEUE, UUID(int=1), 0.5) is False


def test_a_drain_goes_on_with_the_job_that_comes_while_it_lingers(
    queue: Queue, database_url: str, redis_url: str, ringer: Ringer, pool: ThreadPoolExecutor
) -> None:
    child = make_child(database_url, redis_url, settings=WorkerSettings(linger_s=0.9))
    first = queue.submit({"n": 1})
    drained = pool.submit(drain, child, queue.echo, Lane.INTERACTIVE)
    wait_until(lambda: lingering(redis_url), 20, "the child to linger")
    assert queue.get(first).status == "succeeded"
    second = queue.submit({"n": 2})
    ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
    report = drained.result(30)
    assert queue.get(second).status == "succeeded"
    assert (report.jobs, report.batches, report.ended) == (2, [1, 1], "empty")
    assert ringer.waiting(QUEUE) == 0
    child.engine.dispose()
