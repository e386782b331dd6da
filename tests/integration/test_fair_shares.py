"""Fair shares of the interactive lane: who has much waiting takes turns with who has little."""

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from app.db import accept, tenants
from app.db.accept import Accepted
from app.db.quotas import Waiting, held, waiting_of_tenants
from app.domain.ids import new_uuid
from app.domain.lanes import Device, Lane, Priority
from app.domain.retry import RetryPolicy
from app.domain.stages import QueuedJob
from app.intake.shares import MOST_VERSIONS, Shares
from tests.integration.test_accept import a_job
from tests.support.jobs import Queue

GROUP = 20


@dataclass
class Api:
    """As one API process: it accepts in groups, and knows of others only what Postgres tells."""

    queue: Queue
    shares: Shares

    def accept(self, jobs: Sequence[QueuedJob]) -> None:
        for first in range(0, len(jobs), GROUP):
            group = jobs[first : first + GROUP]
            turns = self.shares.turns(group)
            written = accept.accept_group(self.queue.engine, [(job, None) for job in group], turns)
            assert len(written) == len(group)
            assert all(isinstance(one, Accepted) for one in written.values())
            self.shares.placed(group, written)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


Jobs = Callable[..., list[QueuedJob]]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(queue: Queue, clock: Clock) -> Api:
    return an_api(queue, clock)


def an_api(queue: Queue, clock: Clock) -> Api:
    def count(version_ids: Collection[int]) -> Waiting:
        # By a clock that stands while Postgres counts.
        return replace(waiting_of_tenants(queue.engine, version_ids), took_s=0.0)

    return Api(queue, Shares(count, clock, lambda call: call()))


@pytest.fixture
def jobs(queue: Queue) -> Jobs:
    """So many jobs of a tenant of this name."""

    def make(tenant: str, count: int, weight: int = 1, **changes: object) -> list[QueuedJob]:
        tenant_id = tenants.ensure(queue.engine, tenant, actor="test")
        return [a_job(queue, tenant_id=tenant_id, weight=weight, **changes) for _ in range(count)]

    return make


def made(count: int, **changes: Any) -> list[QueuedJob]:
    """Jobs that nobody writes."""
    fields: dict[str, Any] = {
        "tenant_id": 1,
        "version_id": 1,
        "model": "echo",
        "version": "1",
        "device": Device.CPU,
        "lane": Lane.INTERACTIVE,
        "priority": Priority.NORMAL,
        "input": b"{}",
        "input_hash": b"",
        "queue_ttl_s": 60.0,
        "execution_timeout_s": 60.0,
        "retry": RetryPolicy(),
    }
    return [QueuedJob(id=new_uuid(), **{**fields, **changes}) for _ in range(count)]


def served(queue: Queue, most: int) -> list[tuple[int, UUID]]:
    """(tenant, job) of the next jobs, in the order in which they are claimed, a few at a time."""
    worker, taken = queue.worker(), list[tuple[int, UUID]]()
    while len(taken) < most and (claimed := queue.claim(worker, window=min(20, most - len(taken)))):
        taken += [(job.tenant_id, job.id) for job in claimed]
    return taken


def test_fifty_jobs_wait_twice_as_long_beside_thousands_of_another_tenant(
    api: Api, queue: Queue, jobs: Jobs
) -> None:
    api.accept(jobs("large", 5000))
    served(queue, 100)
    few = jobs("small", 50)
    api.accept(few)
    order = [tenant for tenant, _ in served(queue, 200)]
    places = [place for place, tenant in enumerate(order, 1) if tenant == few[0].tenant_id]
    # Alone, the last of fifty is the fiftieth.
    assert len(places) == 50
    assert max(places) <= 2 * 50


def test_who_came_by_another_process_takes_turns_too(queue: Queue, jobs: Jobs, clock: Clock) -> None:
    first, second = an_api(queue, clock), an_api(queue, clock)
    large = jobs("large", 2000)
    for begin in range(0, len(large), 2 * GROUP):
        first.accept(large[begin : begin + GROUP])
        second.accept(large[begin + GROUP : begin + 2 * GROUP])
        clock.now += 0.1
    served(queue, 100)
    few = jobs("small", 50)
    second.accept(few)
    order = [tenant for tenant, _ in served(queue, 200)]
    places = [place for place, tenant in enumerate(order, 1) if tenant == few[0].tenant_id]
    assert len(places) == 50
    assert max(places) <= 2 * 50


@pytest.mark.parametrize("turns", [1, 8], ids=["one after the other", "in turns"])
def test_weights_are_kept_within_a_tenth(
    api: Api, queue: Queue, jobs: Jobs, clock: Clock, turns: int
) -> None:
    light, heavy = jobs("light", 800), jobs("heavy", 800, weight=3)
    part = 800 // turns
    for begin in range(0, 800, part):
        api.accept(light[begin : begin + part])
        api.accept(heavy[begin : begin + part])
        clock.now += 1.0
    counts = Counter(tenant for tenant, _ in served(queue, 800))
    assert 3 * 0.9 <= counts[heavy[0].tenant_id] / counts[light[0].tenant_id] <= 3 * 1.1


def test_nobody_saves_up_and_nobody_pays_for_what_is_done(
    api: Api, queue: Queue, jobs: Jobs, clock: Clock
) -> None:
    api.accept(jobs("busy", 1000))
    served(queue, 1000)
    clock.now += 10.0
    busy, idle = jobs("busy", 100), jobs("idle", 100)
    api.accept([job for pair in zip(busy, idle, strict=True) for job in pair])
    counts = Counter(tenant for tenant, _ in served(queue, 100))
    assert counts[busy[0].tenant_id] == pytest.approx(50, abs=5)


def test_a_tenants_own_jobs_keep_their_order_and_priority_comes_first(
    api: Api, queue: Queue, jobs: Jobs, clock: Clock
) -> None:
    plain = jobs("one", 300)
    for begin in range(0, 300, 30):
        api.accept(plain[begin : begin + 30])
        clock.now += 0.3
    high = jobs("two", 20, priority=Priority.HIGH)
    api.accept(high)
    taken = [job for _, job in served(queue, 320)]
    assert taken == [job.id for job in (*high, *plain)]


def test_a_lone_job_on_an_idle_server_is_counted_by_nobody(queue: Queue, clock: Clock) -> None:
    asked: list[int] = []

    def count(version_ids: Collection[int]) -> Waiting:
        asked.extend(version_ids)
        return Waiting({})

    api = Api(queue, Shares(count, clock, lambda call: call()))
    for _ in range(100):
        api.accept([a_job(queue)])
        assert len(served(queue, 10)) == 1
        clock.now += 2.0
    assert asked == []


def test_turns_of_another_lane_are_first(queue: Queue, clock: Clock) -> None:
    shares = Shares(lambda _: Waiting({}), clock)
    job = a_job(queue)
    assert shares.turns([job, job])[1].behind > 0
    batch = replace(job, lane=type(job.lane).BATCH)
    assert shares.turns([batch, batch])[1].behind == 0


@pytest.mark.parametrize(
    ("took_s", "waited_s", "rests_s"),
    [(0.0, 5.0, 0.02), (0.5, 0.5, 10.0)],
    ids=["a moment, in a busy process", "long, in Postgres"],
)
def test_a_count_holds_by_the_time_that_postgres_took(
    queue: Queue, clock: Clock, took_s: float, waited_s: float, rests_s: float
) -> None:
    asked: list[float] = []

    def count(_: Collection[int]) -> Waiting:
        asked.append(clock.now)
        clock.now += waited_s
        return Waiting({}, took_s)

    api = Api(queue, Shares(count, clock, lambda call: call()))
    api.accept([a_job(queue), a_job(queue)])
    api.accept([a_job(queue)])
    assert len(asked) == 1
    counted_at = clock.now
    clock.now = counted_at + rests_s * 0.9
    api.accept([a_job(queue)])
    assert len(asked) == 1
    clock.now = counted_at + rests_s * 1.1
    api.accept([a_job(queue)])
    assert len(asked) == 2


def test_however_many_versions_are_busy_postgres_counts_for_a_twentieth_of_the_time(clock: Clock) -> None:
    counted: list[Collection[int]] = []

    def count(version_ids: Collection[int]) -> Waiting:
        counted.append(version_ids)
        return Waiting({}, took_s=0.05)

    shares = Shares(count, clock, lambda call: call())
    accepted = Accepted(datetime.now(UTC), datetime.now(UTC), rank=1, head=1, alone=False)
    for number in range(1000):
        (job,) = made(1, version_id=number % 100)
        shares.turns([job])
        shares.placed([job], {job.id: accepted})
        clock.now += 0.01
    # Ten seconds at one a second, and each version has its turn.
    assert len(counted) == pytest.approx(10, abs=1)
    assert {version for versions in counted for version in versions} == set(range(100))
    assert max(map(len, counted)) == MOST_VERSIONS


def test_what_is_kept_of_a_version_does_not_grow_with_all_tenants_that_ever_asked(clock: Clock) -> None:
    shares = Shares(lambda _: Waiting({}), clock, lambda call: call())
    for number in range(5000):
        (job,) = made(1, tenant_id=number)
        shares.turns([job])
        accepted = Accepted(datetime.now(UTC), datetime.now(UTC), rank=number, head=number, alone=False)
        shares.placed([job], {job.id: accepted})
        clock.now += 0.1
    (kept,) = shares._queues.values()
    assert len(kept.last) + len(kept.since) + len(kept.waiting) < 10


def test_postgres_says_how_long_it_counted(queue: Queue) -> None:
    assert waiting_of_tenants(queue.engine, [1]) == Waiting({})
    job = a_job(queue)
    an_api(queue, Clock()).accept([job])
    found = waiting_of_tenants(queue.engine, [job.version_id, job.version_id + 1])
    assert found.jobs == {job.version_id: {job.tenant_id: 1}}
    assert 0 < found.took_s < 5
    assert 0 < held(queue.engine, [job.tenant_id])[job.tenant_id].took_s < 5
