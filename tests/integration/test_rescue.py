"""rescue: what dead workers held comes back; poison is isolated; nobody else pays."""

import pytest

from app.db import cancel, conservation, rescue, workers
from app.domain.retry import cap_after_crash
from app.domain.stages import WorkerIdentity
from tests.support.crew import make_child
from tests.support.jobs import Queue, succeeded
from workers.settle import settle

MAX_CRASHES = 3


def kill(queue: Queue, worker: WorkerIdentity) -> None:
    """What a sibling does that sees the process is gone."""
    workers.bury(queue.engine, [worker.id])


def test_a_silent_worker_is_buried_and_a_live_one_is_not(queue: Queue) -> None:
    silent, live = queue.worker(), queue.worker()
    queue.execute("UPDATE workers SET heartbeat_at = now() - interval '31 s' WHERE id = :id", id=silent.id)
    buried = rescue.bury(queue.engine, lease_ttl_s=30, grace_s=10)
    assert [(worker.worker_id, worker.cause) for worker in buried] == [(silent.id, "lost")]
    seen = workers.heartbeat(queue.engine, live.id, {})
    assert seen is not None
    assert seen.state == "ready"


def test_a_worker_past_its_batch_deadline_is_buried_for_it(queue: Queue) -> None:
    stuck = queue.worker()
    queue.submit()
    queue.claim(stuck)
    queue.execute("UPDATE workers SET batch_deadline_at = now() - interval '11 s'")
    (buried,) = rescue.bury(queue.engine, lease_ttl_s=30, grace_s=10)
    assert buried.cause == "timeout"


def test_only_what_was_in_hand_is_charged(queue: Queue) -> None:
    ids, worker = [queue.submit() for _ in range(6)], queue.worker()
    queue.claim(worker)
    workers.mark(queue.engine, worker.id, ids[:4], 60)
    kill(queue, worker)
    assert list(rescue.orphaned_workers(queue.engine)) == [worker.id]
    rescue.rescue(queue.engine, worker.id, MAX_CRASHES)
    rows = {row.job_id: (row.crashes, row.batch_cap) for row in queue.execute("SELECT * FROM job_ready")}
    assert [rows[job_id] for job_id in ids] == [(1, 2)] * 4 + [(0, None)] * 2
    assert queue.get(ids[0]).reason == "worker_lost"
    assert [attempt["outcome"] for attempt in queue.get(ids[0]).attempts] == ["crashed"]
    assert [attempt["outcome"] for attempt in queue.get(ids[5]).attempts] == ["lost"]
    assert not conservation.check(queue.engine).violations


@pytest.mark.parametrize("size", [1, 2, 3, 5, 9, 16, 32, 63, 64])
def test_the_cap_in_sql_is_the_rule_in_python(queue: Queue, size: int) -> None:
    for _ in range(size):
        queue.submit()
    for crashes in (1, 2):
        worker = queue.worker()
        in_hand = len(queue.claim(worker))
        kill(queue, worker)
        rescue.rescue(queue.engine, worker.id, MAX_CRASHES)
        caps = {cap for (cap,) in queue.execute("SELECT DISTINCT batch_cap FROM job_ready")}
        assert caps == {cap_after_crash(in_hand, crashes, MAX_CRASHES)}


def test_a_job_that_keeps_killing_fails_and_one_alone_survives(queue: Queue) -> None:
    poison = queue.submit()
    for _ in range(MAX_CRASHES):
        worker = queue.worker()
        assert [job.id for job in queue.claim(worker)] == [poison]
        kill(queue, worker)
        rescue.rescue(queue.engine, worker.id, MAX_CRASHES)
    row = queue.get(poison)
    assert row.status == "failed"
    assert row.error["code"] == "worker_crashed"
    assert "3 times" in row.error["message"]
    assert len(row.attempts) == 3
    assert not conservation.check(queue.engine).violations


def test_alone_and_over_its_time_fails_at_once(queue: Queue) -> None:
    slow, worker = queue.submit(), queue.worker()
    queue.claim(worker)
    queue.execute("UPDATE workers SET batch_deadline_at = now() - interval '1 s'")
    kill(queue, worker)
    rescue.rescue(queue.engine, worker.id, MAX_CRASHES)
    assert queue.get(slow).error["code"] == "execution_timeout"


def test_found_dead_long_after_its_deadline_is_no_timeout(queue: Queue) -> None:
    """The whole machine was down over the deadline: that says nothing about the job."""
    job_id, worker = queue.submit(), queue.worker()
    queue.claim(worker)
    queue.execute("UPDATE workers SET batch_deadline_at = now() - interval '1 hour'")
    kill(queue, worker)
    rescue.rescue(queue.engine, worker.id, MAX_CRASHES)
    assert queue.get(job_id).status == "queued"


def test_a_worker_that_stopped_on_purpose_charges_nobody(queue: Queue) -> None:
    worker = queue.worker()
    queue.submit()
    queue.claim(worker)
    workers.stop(queue.engine, worker.id)
    rescue.rescue(queue.engine, worker.id, MAX_CRASHES)
    assert queue.execute("SELECT crashes, batch_cap FROM job_ready") == [(0, None)]


def test_a_cancel_request_is_honoured_by_rescue(queue: Queue) -> None:
    job_id, worker = queue.submit(), queue.worker()
    queue.claim(worker)
    cancel.cancel(queue.engine, job_id)
    kill(queue, worker)
    rescue.rescue(queue.engine, worker.id, MAX_CRASHES)
    assert queue.get(job_id).status == "canceled"


def test_a_lease_of_a_worker_nobody_knows_is_rescued(queue: Queue) -> None:
    job_id, worker = queue.submit(), queue.worker()
    queue.claim(worker)
    queue.execute("DELETE FROM workers")
    assert list(rescue.orphaned_workers(queue.engine)) == [worker.id]
    rescue.rescue(queue.engine, worker.id, MAX_CRASHES)
    assert queue.get(job_id).status == "queued"


def test_a_live_worker_is_not_robbed(queue: Queue) -> None:
    worker = queue.worker()
    queue.submit()
    queue.claim(worker)
    assert rescue.rescue(queue.engine, worker.id, MAX_CRASHES) == []
    assert list(rescue.orphaned_workers(queue.engine)) == []


def test_the_late_write_of_a_rescued_worker_changes_nothing(queue: Queue) -> None:
    job_id, zombie = queue.submit(), queue.worker()
    (stale,) = queue.claim(zombie)
    kill(queue, zombie)
    rescue.rescue(queue.engine, zombie.id, MAX_CRASHES)
    heir = queue.worker()
    (fresh,) = queue.claim(heir)
    assert settle(queue.engine, zombie, [succeeded(stale, b'"late"')]) == []
    settle(queue.engine, heir, [succeeded(fresh, b'"heir"')])
    assert settle(queue.engine, zombie, [succeeded(stale, b'"later"')]) == []
    assert queue.output(job_id) == "heir"
    assert not conservation.check(queue.engine).violations


def test_who_was_silent_for_too_long_begins_as_somebody_else(
    queue: Queue, database_url: str, redis_url: str
) -> None:
    now = 0.0
    child = make_child(database_url, redis_url, clock=lambda: now)
    child.begin()
    first = child.identity.id
    now = child.settings.lease_ttl_s / 2
    child.begin()
    assert child.identity.id == first
    now = child.settings.lease_ttl_s
    child.begin()
    assert child.identity.id != first
    states = dict(map(tuple, queue.execute("SELECT id, state FROM workers")))
    assert (states[first], states[child.identity.id]) == ("stopped", "ready")
    child.stop()
