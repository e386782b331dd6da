"""A child that has to leave: what it gives back, when, and at whose cost."""

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from app.db import conservation, rescue, workers
from app.domain.draining import DrainCause
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from tests.support.crew import make_child, register
from tests.support.jobs import Queue
from tests.support.models import Gated
from tests.support.waiting import wait_until
from workers.drainflag import DrainFlag
from workers.leaving import Leaving
from workers.pipeline import drain


class Clock:
    """Time that goes on only when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Scene:
    """A child in the middle of a forward pass that ends only when the test says so."""

    def __init__(self, queue: Queue, database_url: str, redis_url: str) -> None:
        self.queue = queue
        self.clock = Clock()
        self.flag = DrainFlag(self.clock)
        self.child = make_child(
            database_url, redis_url, flag=self.flag, clock=self.clock, queues=("cpu.interactive",)
        )
        self.version: ModelVersion = register(queue, "Gated")
        self.ended = threading.Event()
        self.leaving = Leaving(self.child, self.ended.set)
        self.drained: Any = None
        self._thread = threading.Thread(target=self._drain, daemon=True)

    def _drain(self) -> None:
        with self.child.busy:
            self.drained = drain(self.child, self.version, Lane.INTERACTIVE)

    def run(self, jobs: int) -> None:
        """Put jobs into the queue, and wait until the first micro-batch of 4 runs."""
        for n in range(jobs):
            self.queue.submit({"value": n}, version=self.version)
        Gated.reset()
        self._thread.start()
        assert Gated.running.wait(10)

    def finish(self) -> None:
        """Let the model answer, and the drain end."""
        Gated.gate.set()
        if self._thread.ident:
            self._thread.join(10)
        assert not self._thread.is_alive()

    def statuses(self) -> dict[str, int]:
        return dict(
            self.queue.execute(
                """
                SELECT coalesce(r.status, CASE WHEN l.job_id IS NULL THEN 'queued' ELSE 'running' END),
                       count(*)
                  FROM jobs j LEFT JOIN job_results r ON r.job_id = j.id
                              LEFT JOIN job_leases l ON l.job_id = j.id
                 GROUP BY 1
                """
            )
        )

    def row(self) -> Any:
        return workers.list_all(self.queue.engine, self.child.identity.id)[0]


@pytest.fixture
def scene(queue: Queue, database_url: str, redis_url: str) -> Iterator[Scene]:
    made = Scene(queue, database_url, redis_url)
    yield made
    made.finish()
    made.child.engine.dispose()


def test_what_has_not_started_goes_back_while_the_rest_still_runs(scene: Scene) -> None:
    scene.run(8)
    assert scene.child.ringer.waiting("cpu.interactive") == 0
    scene.flag.enter(DrainCause.NOTICE, 120)
    scene.leaving.step()
    assert scene.statuses() == {"queued": 4, "running": 4}
    assert scene.queue.execute("SELECT DISTINCT reason, attempt, crashes FROM job_ready") == [
        ("preempted", 0, 0)
    ]
    assert scene.child.ringer.waiting("cpu.interactive") == 1, "others are called to it at once"
    assert (scene.row()["state"], scene.row()["drain_cause"]) == ("draining", "notice")
    scene.finish()
    assert scene.drained.ended in ("draining", "empty")
    assert scene.statuses() == {"queued": 4, "succeeded": 4}
    assert not scene.ended.is_set()
    assert not conservation.check(scene.queue.engine).violations


def test_what_runs_is_abandoned_before_the_machine_goes_and_late_answers_are_stale(
    scene: Scene,
) -> None:
    scene.run(4)
    scene.flag.enter(DrainCause.NOTICE, 30)
    scene.leaving.step()
    assert not scene.ended.is_set(), "nothing is known of how long it takes, so it may go on"
    scene.clock.now += 28.5
    scene.leaving.step()
    assert scene.ended.is_set()
    assert scene.statuses() == {"queued": 4}
    assert scene.row()["state"] == "stopped"
    scene.finish()
    assert scene.statuses() == {"queued": 4}, "the late answers are stale"
    assert rescue.orphaned_workers(scene.queue.engine) == []
    assert scene.queue.execute("SELECT DISTINCT attempt, crashes, batch_cap, reason FROM job_ready") == [
        (0, 0, None, "preempted")
    ]
    assert scene.queue.execute("SELECT DISTINCT outcome FROM job_attempts") == [("released",)]


def test_what_is_predicted_not_to_end_in_time_is_abandoned_at_once(scene: Scene) -> None:
    runner = scene.child.runners.get(scene.version)
    for _ in range(5):
        runner.costs.observe(4, 4, 20.0)
    scene.run(4)
    scene.flag.enter(DrainCause.NOTICE, 15)
    scene.leaving.step()
    assert scene.ended.is_set()
    assert scene.statuses() == {"queued": 4}


def test_what_is_predicted_to_end_in_time_may_end(scene: Scene) -> None:
    runner = scene.child.runners.get(scene.version)
    for _ in range(5):
        runner.costs.observe(4, 4, 6.0)
    scene.run(4)
    scene.flag.enter(DrainCause.SIGTERM, 25)
    scene.leaving.step()
    assert not scene.ended.is_set()
    scene.finish()
    assert scene.statuses() == {"succeeded": 4}


def test_without_a_time_limit_nothing_is_abandoned(scene: Scene) -> None:
    scene.run(4)
    scene.flag.enter(DrainCause.CORDON)
    scene.leaving.step()
    scene.clock.now += 10_000
    scene.leaving.step()
    assert not scene.ended.is_set()
    assert (scene.row()["drain_cause"], scene.row()["drain_until"]) == ("cordon", None)
    scene.flag.enter(DrainCause.NOTICE, 60)
    scene.leaving.step()
    assert scene.row()["drain_cause"] == "notice"
    assert scene.row()["drain_until"] is not None


def test_a_cancel_request_is_not_lost_by_giving_the_job_back(scene: Scene) -> None:
    scene.run(4)
    scene.queue.execute("UPDATE job_leases SET cancel_requested = true")
    scene.flag.enter(DrainCause.NOTICE, 0)
    scene.leaving.step()
    assert scene.statuses() == {"canceled": 4}


def test_an_operators_word_reaches_the_whole_worker_once(
    queue: Queue, database_url: str, redis_url: str
) -> None:
    ended: list[str] = []
    flag = DrainFlag()
    first, second = (
        make_child(database_url, redis_url, flag=flag, end_worker=lambda: ended.append("worker"))
        for _ in range(2)
    )
    for child in (first, second):
        child.ensure_announced()
    elsewhere = queue.worker(name="other/0")
    tell = partial(workers.tell_to_drain, queue.engine, subject="them", actor="test")
    assert tell(name="test", within_s=50) == ["test/0", "test/0"]
    for child in (first, second):
        child.heartbeat()
    assert ended == ["worker"]
    assert flag.cause is DrainCause.OPERATOR
    left_s = flag.left_s()
    assert left_s is not None
    assert 40 < left_s <= 50
    assert workers.list_all(queue.engine, elsewhere.id)[0]["state"] == "ready"
    assert tell(pool="nowhere") == []
    assert tell(worker_id=elsewhere.id) == ["other/0"]
    for child in (first, second):
        child.engine.dispose()


def test_a_child_that_leaves_notices_within_moments(scene: Scene) -> None:
    """By the thread that the process has for it, next to a model that does not end."""
    from workers.heartbeat import Background

    background = Background(scene.child, scene.child.ringer, lambda: None, 5.0, scene.leaving.step)
    scene.run(8)
    background.start()
    scene.flag.enter(DrainCause.NOTICE, 30)
    wait_until(lambda: scene.statuses().get("queued") == 4, 10, "the unstarted half to be queued")
    scene.clock.now += 29
    wait_until(scene.ended.is_set, 10, "the rest to be abandoned")
    background.stop()
    assert scene.statuses() == {"queued": 8}
