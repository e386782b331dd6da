"""A micro-batch is settled while the next one runs, and every promise about jobs in hand still holds."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from app.db import conservation, rescue
from app.domain.draining import DrainCause
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from app.errors import Unavailable
from tests.support.crew import make_child, register
from tests.support.jobs import Queue
from tests.support.waiting import wait_until
from workers import pipeline
from workers.child import Child
from workers.pipeline import drain


@pytest.fixture
def child(queue: Queue, database_url: str, redis_url: str) -> Iterator[Child]:
    made = make_child(database_url, redis_url)
    yield made
    made.engine.dispose()


class Watched:
    """A window of eight jobs, two micro-batches, with a hand on what the pipeline calls."""

    def __init__(self, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queue = queue
        self.version: ModelVersion = register(queue, "Double")
        self.ids = [queue.submit({"value": 1 + n / 100}, version=self.version) for n in range(8)]
        self.first, self.second = self.ids[:4], self.ids[4:]
        self._patch = monkeypatch

    def statuses(self) -> list[str]:
        return [self.queue.get(job_id).status for job_id in self.ids]

    def in_hand(self) -> Any:
        ((batch, deadline),) = self.queue.execute("SELECT batch, batch_deadline_at FROM workers")
        return batch, deadline

    def around(self, name: str, number: int, act: Any) -> None:
        """Call `act` before the call number `number` of the pipeline's `name`."""
        before, calls = getattr(pipeline, name), iter(range(100))

        def watched(*arguments: Any, **options: Any) -> Any:
            if next(calls) == number:
                act()
            return before(*arguments, **options)

        self._patch.setattr(pipeline, name, watched)


@pytest.fixture
def watched(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Watched:
    return Watched(queue, monkeypatch)


def test_the_next_micro_batch_runs_before_the_last_one_is_settled(watched: Watched, child: Child) -> None:
    begun = threading.Event()
    # Nobody is refused, so the second settle is that of the first micro-batch.
    watched.around("infer", 1, begun.set)
    watched.around("settle", 1, lambda: begun.wait(20) or pytest.fail("the device waited for Postgres"))
    assert drain(child, watched.version, Lane.INTERACTIVE).batches == [4, 4]
    assert watched.statuses() == ["succeeded"] * 8


def test_what_runs_stays_in_hand_when_the_one_before_is_settled(watched: Watched, child: Child) -> None:
    seen = []

    def look() -> None:
        wait_until(lambda: watched.statuses()[:4] == ["succeeded"] * 4, 20, "the first four")
        seen.append(watched.in_hand())

    watched.around("infer", 1, look)
    drain(child, watched.version, Lane.INTERACTIVE)
    ((batch, deadline),) = seen
    assert sorted(batch) == sorted(watched.second)
    assert deadline is not None


def test_nothing_is_in_hand_after_a_drain(watched: Watched, child: Child) -> None:
    drain(child, watched.version, Lane.INTERACTIVE)
    assert watched.in_hand() == ([], None)
    assert not conservation.check(watched.queue.engine).violations


def test_dying_in_one_micro_batch_charges_neither_the_one_before_nor_the_one_after(
    watched: Watched, child: Child
) -> None:
    third = [watched.queue.submit({"value": 1.5}, version=watched.version) for _ in range(4)]
    charged: dict[Any, int] = {}

    def die() -> None:
        wait_until(lambda: watched.statuses()[:4] == ["succeeded"] * 4, 20, "the first four")
        watched.queue.execute("UPDATE workers SET state = 'dead', cause = 'crashed'")
        rescue.rescue(watched.queue.engine, child.identity.id, 3)
        charged.update(watched.queue.execute("SELECT job_id, crashes FROM job_ready"))

    watched.around("infer", 1, die)
    drain(child, watched.version, Lane.INTERACTIVE)
    assert {job_id for job_id, crashes in charged.items() if crashes} == set(watched.second)
    assert not any(charged.get(job_id) for job_id in third)
    assert watched.statuses() == ["succeeded"] * 4 + ["queued"] * 4, "a zombie's settle writes nothing"


def test_results_that_are_being_written_count_when_the_next_run_breaks(
    watched: Watched, child: Child
) -> None:
    broken = threading.Event()

    def fail() -> None:
        broken.set()
        raise ZeroDivisionError

    watched.around("infer", 1, fail)
    watched.around("settle", 1, lambda: broken.wait(20))
    with pytest.raises(ZeroDivisionError):
        drain(child, watched.version, Lane.INTERACTIVE)
    assert watched.statuses() == ["succeeded"] * 4 + ["running"] * 4
    child.heartbeat()
    (former,) = rescue.orphaned_workers(watched.queue.engine)
    rescue.rescue(watched.queue.engine, former, 3)
    assert watched.queue.execute("SELECT DISTINCT crashes FROM job_ready") == [(0,)]


def test_results_that_can_not_be_written_end_the_drain(
    watched: Watched, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = child.identity.id
    monkeypatch.setattr(child, "settings", child.settings.model_copy(update={"lease_ttl_s": 0.01}))
    monkeypatch.setattr(pipeline, "SETTLE_RETRY_S", 0.02)

    def away(*_: object) -> None:
        raise Unavailable("gone")

    monkeypatch.setattr(pipeline, "settle", away)
    with pytest.raises(Unavailable):
        drain(child, watched.version, Lane.INTERACTIVE)
    assert child.identity.id != before, "its leases are given up"


def test_a_drain_that_must_end_gives_the_rest_back_and_keeps_what_was_done(
    watched: Watched, child: Child
) -> None:
    watched.around("infer", 0, partial(child._flag.enter, DrainCause.SIGTERM))
    assert drain(child, watched.version, Lane.INTERACTIVE).ended == "draining"
    assert watched.statuses() == ["succeeded"] * 4 + ["queued"] * 4
    assert watched.queue.execute("SELECT DISTINCT attempt, crashes FROM job_ready") == [(0, 0)]
