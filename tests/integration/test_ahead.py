"""The next window is claimed while the last micro-batch of this one runs, and nobody loses by it."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import pytest

from app.broker.ring import doorbell_for
from app.db import cancel, conservation, rescue
from app.domain.cost import Cost
from app.domain.draining import DrainCause
from app.domain.lanes import Lane
from app.domain.window import Window
from app.errors import Unavailable
from tests.support.crew import make_child, register
from tests.support.jobs import Queue
from tests.support.waiting import wait_until
from workers import pipeline
from workers.child import Child
from workers.pipeline import DrainReport, drain


class Ahead:
    """Two windows of two micro-batches of four. `during` acts while the last one of the first window runs."""

    def __init__(self, queue: Queue, child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
        self.queue, self.child, self.patch = queue, child, monkeypatch
        self.version = register(queue, "Double")
        self.ids: list[UUID] = []
        child.ahead.on = True
        # No time is known without two micro-batches, and without it nothing is claimed ahead.
        for _ in range(2):
            child.runners.get(self.version).costs.observe(4, 4, 0.01)
        monkeypatch.setattr(pipeline, "_window", lambda *_, **__: Window(8, 8))

    def run(self, during: Callable[[], object], lane: Lane = Lane.INTERACTIVE) -> DrainReport:
        self.ids = [self.queue.submit({"value": 1}, version=self.version, lane=lane) for _ in range(16)]
        infer, calls = pipeline.infer, iter(range(100))

        def acting(*arguments: Any) -> Any:
            if next(calls) == 1:
                during()
            return infer(*arguments)

        self.patch.setattr(pipeline, "infer", acting)
        return drain(self.child, self.version, lane)

    def claimed(self) -> None:
        """Wait until the first micro-batch is settled and the next window is leased beside the second."""
        wait_until(lambda: self.statuses()[4:] == ["running"] * 12, 20, "a claim ahead")
        wait_until(lambda: self.statuses()[:4] == ["succeeded"] * 4, 20, "the first four")

    def statuses(self) -> list[str]:
        return [self.queue.get(job_id).status for job_id in self.ids]

    def released(self) -> None:
        """The second window was given back, as if nothing had been."""
        assert self.statuses() == ["succeeded"] * 8 + ["queued"] * 8
        assert self.queue.execute("SELECT DISTINCT attempt, crashes, batch_cap FROM job_ready") == [
            (0, 0, None)
        ]
        assert not conservation.check(self.queue.engine).violations


@pytest.fixture
def child(queue: Queue, database_url: str, redis_url: str) -> Iterator[Child]:
    made = make_child(database_url, redis_url, queues=("cpu.interactive", "cpu.batch"), children=2)
    yield made
    made.engine.dispose()


@pytest.fixture
def ahead(queue: Queue, child: Child, monkeypatch: pytest.MonkeyPatch) -> Ahead:
    child._siblings.set(1, True)
    return Ahead(queue, child, monkeypatch)


def test_what_is_claimed_ahead_is_not_in_hand_and_runs_next(ahead: Ahead) -> None:
    in_hand: list[UUID] = []

    def look() -> None:
        ahead.claimed()
        in_hand.extend(ahead.queue.execute("SELECT batch FROM workers")[0][0])

    assert ahead.run(look).batches == [4, 4, 4, 4]
    assert sorted(in_hand) == sorted(ahead.ids[4:8])
    assert ahead.statuses() == ["succeeded"] * 16
    assert ahead.queue.execute("SELECT batch, batch_deadline_at FROM workers") == [([], None)]


def test_a_death_charges_what_ran_and_not_what_was_claimed_ahead(ahead: Ahead) -> None:
    crashes: dict[UUID, int] = {}

    def die() -> None:
        ahead.claimed()
        ahead.queue.execute("UPDATE workers SET state = 'dead', cause = 'crashed'")
        rescue.rescue(ahead.queue.engine, ahead.child.identity.id, 3)
        crashes.update(ahead.queue.execute("SELECT job_id, crashes FROM job_ready"))

    ahead.run(die)
    assert crashes == {job_id: int(job_id in ahead.ids[4:8]) for job_id in ahead.ids[4:]}
    assert ahead.statuses() == ["succeeded"] * 4 + ["queued"] * 12, "a zombie's settle writes nothing"


def test_a_worker_that_drains_gives_back_what_it_claimed_ahead(ahead: Ahead) -> None:
    def told() -> None:
        ahead.claimed()
        ahead.child._flag.enter(DrainCause.SIGTERM)

    assert ahead.run(told).ended == "draining"
    ahead.released()


def test_a_slice_that_ends_gives_back_what_was_claimed_ahead(ahead: Ahead) -> None:
    now = [0.0]
    ahead.child.clock = lambda: now[0]

    def late() -> None:
        ahead.claimed()
        now[0] = 1000.0

    assert ahead.run(late).ended == "slice"
    ahead.released()


def test_who_waits_for_an_answer_does_not_wait_for_bulk_that_was_claimed_ahead(ahead: Ahead) -> None:
    def ask() -> None:
        ahead.claimed()
        ahead.child.ringer.ring(doorbell_for(ahead.version, Lane.INTERACTIVE, 5))

    assert ahead.run(ask, Lane.BATCH).ended == "yield"
    ahead.released()


def test_a_job_that_is_canceled_after_it_was_claimed_ahead_never_runs(ahead: Ahead) -> None:
    def canceled() -> None:
        ahead.claimed()
        cancel.cancel(ahead.queue.engine, ahead.ids[8])

    assert ahead.run(canceled).batches == [4, 4, 4, 3]
    assert ahead.statuses() == ["succeeded"] * 8 + ["canceled"] + ["succeeded"] * 7


@pytest.mark.parametrize("why", ["a sibling is idle", "off", "the slice ends before"])
def test_nothing_is_claimed_ahead_if(ahead: Ahead, why: str) -> None:
    if why == "a sibling is idle":
        ahead.child._siblings.set(1, False)
    elif why == "off":
        ahead.child.ahead.on = False
    else:
        costs = ahead.child.runners.get(ahead.version).costs
        ahead.patch.setattr(costs, "cost", lambda *_: Cost(1000.0, 0.0, 0.0))
    begun: list[Any] = []
    ahead.patch.setattr(ahead.child.ahead, "start", begun.append)
    assert ahead.run(lambda: None).jobs == 16
    assert begun == []


def test_a_claim_ahead_that_fails_ends_the_drain_and_results_count(ahead: Ahead) -> None:
    claim, before = pipeline.claim, ahead.child.identity.id

    def broken(*arguments: Any, in_hand: bool = True) -> Any:
        if not in_hand:
            raise Unavailable("gone")
        return claim(*arguments)

    ahead.patch.setattr(pipeline, "claim", broken)
    with pytest.raises(Unavailable):
        ahead.run(lambda: None)
    assert ahead.statuses() == ["succeeded"] * 8 + ["queued"] * 8
    assert ahead.child.identity.id != before
