"""A child drains a real queue: claim → batch → infer → settle → notify."""

import itertools
import threading
from collections.abc import Callable, Iterator

import orjson
import pytest
import redis
from pydantic import SecretStr

from app.broker.channels import WAKE_CHANNEL, decode_ids
from app.broker.ring import Ringer, doorbell_for
from app.db import cancel, conservation, rescue, upkeep
from app.domain.draining import DrainCause
from app.domain.lanes import Lane
from app.domain.retry import RetryPolicy
from app.errors import NoRoom, Unavailable
from app.settings import Worker as WorkerSettings
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


def test_a_drain_empties_the_queue_in_batches_and_says_so(queue: Queue, child: Child) -> None:
    ids = [queue.submit({"n": n}) for n in range(150)]
    report = drain(child, queue.echo, Lane.INTERACTIVE)
    assert report.as_result() == {
        "model": "echo",
        "version": "1",
        "queue": "cpu.interactive",
        "jobs": 150,
        "batches": [64, 64, 22],
        "ended": "empty",
    }
    for n, job_id in enumerate(ids):
        row = queue.get(job_id)
        assert (row.status, orjson.loads(row.output)) == ("succeeded", {"n": n})
    assert not conservation.check(queue.engine).violations


def test_jobs_of_other_versions_and_lanes_are_left_alone(queue: Queue, child: Child) -> None:
    other = queue.submit({"value": 1}, version=register(queue, "Double"))
    batch = queue.submit(lane=Lane.BATCH)
    assert drain(child, queue.echo, Lane.INTERACTIVE).jobs == 0
    assert {queue.get(other).status, queue.get(batch).status} == {"queued"}


def test_a_full_window_rings_for_others_before_it_works(queue: Queue, child: Child) -> None:
    version = register(queue, "Double")
    for n in range(9):
        queue.submit({"value": 1 + n / 100}, version=version)
    report = drain(child, version, Lane.INTERACTIVE)
    assert sum(report.batches) == 9
    assert max(report.batches) <= 4
    assert child.ringer.waiting("cpu.interactive") == 1


def test_waiting_clients_are_told_which_jobs_ended(queue: Queue, child: Child, redis_url: str) -> None:
    ids = {queue.submit() for _ in range(3)}
    with redis.Redis.from_url(redis_url) as client, client.pubsub(ignore_subscribe_messages=True) as listener:
        listener.subscribe(WAKE_CHANNEL)
        listener.get_message(timeout=5)
        drain(child, queue.echo, Lane.INTERACTIVE)
        message = listener.get_message(timeout=5)
    assert message is not None
    assert set(decode_ids(message["data"])) == ids


def test_an_input_the_model_refuses_fails_alone(queue: Queue, child: Child) -> None:
    good, bad = queue.submit({"n": 1}), queue.submit({"sleep_ms": -5})
    drain(child, queue.echo, Lane.INTERACTIVE)
    assert queue.get(good).status == "succeeded"
    assert queue.get(bad).error["code"] == "invalid_input"
    assert queue.get(bad).error["message"].startswith("/sleep_ms:")


def test_one_failing_item_of_32_fails_alone(queue: Queue, child: Child) -> None:
    once = RetryPolicy(max_attempts=1)
    ids = [queue.submit({"n": n, "fail": n == 7 and "boom"}, retry=once) for n in range(32)]
    report = drain(child, queue.echo, Lane.INTERACTIVE)
    assert report.batches == [32]
    rows = [queue.get(job_id) for job_id in ids]
    assert [row.status for row in rows].count("succeeded") == 31
    assert rows[7].error == {"code": "model_error", "message": "RuntimeError: boom"}


def test_a_model_that_does_not_load_fails_its_jobs_after_their_retries(queue: Queue, child: Child) -> None:
    version = register(queue, "Unloadable")
    job_id = queue.submit({"value": 1}, version=version, retry=RetryPolicy(max_attempts=2))
    assert drain(child, version, Lane.INTERACTIVE).ended == "load_failed"
    assert queue.get(job_id).reason == "retry_backoff"
    queue.execute("UPDATE job_deferred SET run_at = now()")
    upkeep.promote(queue.engine)
    drain(child, version, Lane.INTERACTIVE)
    assert queue.get(job_id).error == {
        "code": "model_load_failed",
        "message": "FileNotFoundError: weights.safetensors",
    }
    child.heartbeat()
    ((shown,),) = queue.execute("SELECT models FROM workers")
    assert shown["unloadable@1"]["state"] == "failed"
    queue.submit()
    assert drain(child, queue.echo, Lane.INTERACTIVE).jobs == 1, "the child goes on serving other models"


def test_a_draining_child_takes_nothing_and_passes_the_bell_on(queue: Queue, child: Child) -> None:
    job_id = queue.submit()
    child._flag.enter(DrainCause.SIGTERM)
    assert drain(child, queue.echo, Lane.INTERACTIVE).ended == "draining"
    assert queue.get(job_id).status == "queued"
    assert child.ringer.waiting("cpu.interactive") == 1


class Ticking:
    """A clock that stands until it is told to go on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_slice_ends_at_a_micro_batch_border_and_gives_the_rest_back(
    queue: Queue, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Ticking()
    child = make_child(database_url, redis_url, clock=clock)
    version = register(queue, "Double")
    ids = [queue.submit({"value": 1 + n / 100}, version=version) for n in range(8)]
    before = pipeline.infer

    def slow(*arguments: object) -> object:
        clock.now += 3
        return before(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "infer", slow)
    child.settings = WorkerSettings(slice_s=2, linger_s=0)
    report = drain(child, version, Lane.INTERACTIVE)
    assert (report.jobs, report.ended) == (4, "slice")
    rows = [queue.get(job_id) for job_id in ids]
    assert [row.status for row in rows].count("succeeded") == 4
    left = next(row for row in rows if row.status == "queued")
    assert left.reason == "waiting_for_worker"
    assert queue.execute("SELECT DISTINCT attempt, crashes FROM job_ready") == [(0, 0)]
    assert child.ringer.waiting("cpu.interactive") == 1


def test_a_batch_drain_makes_room_when_an_interactive_bell_rings(
    queue: Queue, database_url: str, redis_url: str
) -> None:
    both = ("cpu.batch", "cpu.interactive")
    child = make_child(database_url, redis_url, queues=both)
    version = register(queue, "Double")
    for n in range(12):
        queue.submit({"value": 1 + n / 100}, version=version, lane=Lane.BATCH)
    child.ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
    report = drain(child, version, Lane.BATCH)
    assert report.ended == "yield"
    assert report.batches == [4], "bulk is slowed down by others, never stopped"
    child.ringer.clear(doorbell_for(queue.echo, Lane.INTERACTIVE))
    assert drain(child, version, Lane.BATCH).jobs == 8


def test_a_job_canceled_while_earlier_ones_run_is_never_run(
    queue: Queue, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = register(queue, "Double")
    ids = [queue.submit({"value": 1 + n / 100}, version=version) for n in range(8)]
    before = pipeline.infer
    ran: list[int] = []

    def canceling(micro_batch, *rest):  # type: ignore[no-untyped-def]
        cancel.cancel(queue.engine, ids[6])
        ran.append(len(micro_batch.jobs))
        return before(micro_batch, *rest)

    monkeypatch.setattr(pipeline, "infer", canceling)
    drain(child, version, Lane.INTERACTIVE)
    statuses = [queue.get(job_id).status for job_id in ids]
    assert statuses == ["succeeded"] * 6 + ["canceled"] + ["succeeded"]
    assert ran == [4, 3]


def test_a_running_prediction_sees_the_cancel_and_reports_progress(queue: Queue, child: Child) -> None:
    job_id = queue.submit({"sleep_ms": 60_000})
    neighbour = queue.submit({"n": 1})
    working = threading.Thread(target=drain, args=(child, queue.echo, Lane.INTERACTIVE))
    working.start()
    seen = wait_until(lambda: queue.get(job_id).progress, 20, "progress")
    assert 0 < seen < 1
    cancel.cancel(queue.engine, job_id)
    working.join(20)
    assert not working.is_alive()
    assert queue.get(job_id).status == "canceled"
    assert queue.get(neighbour).status == "succeeded"
    assert queue.execute("SELECT count(*) FROM job_progress") == [(0,)]


def test_an_error_of_ours_leaves_no_lease_behind(
    queue: Queue, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queue.submit()

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "infer", broken)
    with pytest.raises(ZeroDivisionError):
        drain(child, queue.echo, Lane.INTERACTIVE)
    assert queue.get(job_id).status == "running"
    child.heartbeat()
    (former,) = rescue.orphaned_workers(queue.engine)
    rescue.rescue(queue.engine, former, 3)
    assert queue.execute("SELECT crashes FROM job_ready") == [(0,)]
    monkeypatch.undo()
    assert drain(child, queue.echo, Lane.INTERACTIVE).jobs == 1


def test_a_settle_that_meets_a_restart_of_postgres_is_tried_again(
    queue: Queue, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = queue.submit()
    before = pipeline.settle
    calls = itertools.count()

    def cut_once(engine, *rest):  # type: ignore[no-untyped-def]
        if next(calls) == 1:
            queue.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                " AND datname = current_database()"
            )
        return before(engine, *rest)

    monkeypatch.setattr(pipeline, "settle", cut_once)
    monkeypatch.setattr(pipeline, "SETTLE_RETRY_S", 0.01)
    drain(child, queue.echo, Lane.INTERACTIVE)
    assert queue.get(job_id).status == "succeeded"
    assert next(calls) == 3


def test_what_waits_behind_an_unsettled_micro_batch_is_in_nobodys_hand(
    queue: Queue, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second has run and waits for the first, which Postgres has no room for. Its deadline may pass."""
    version, settling = register(queue, "Double"), pipeline.settle
    ids = [queue.submit({"value": 1 + n / 100}, version=version) for n in range(8)]
    full, ran, inferring = threading.Event(), threading.Event(), pipeline.infer
    full.set()

    def infer(micro_batch, *rest):  # type: ignore[no-untyped-def]
        outcomes = inferring(micro_batch, *rest)
        if ids[4] in [prepared.job.id for prepared in micro_batch.jobs]:
            ran.set()
        return outcomes

    def settle(engine, worker, outcomes):  # type: ignore[no-untyped-def]
        if outcomes and full.is_set():
            raise NoRoom("the disk is full")
        return settling(engine, worker, outcomes)

    monkeypatch.setattr(pipeline, "infer", infer)
    monkeypatch.setattr(pipeline, "settle", settle)
    monkeypatch.setattr(pipeline, "SETTLE_RETRY_S", 0.05)
    monkeypatch.setattr(pipeline, "LATE_S", 0.05)
    working = threading.Thread(target=drain, args=(child, version, Lane.INTERACTIVE))
    working.start()
    try:
        wait_until(lambda: ran.is_set(), 20, "the second to run")
        wait_until(lambda: queue.execute("SELECT batch FROM workers") == [([],)], 20, "it to be put down")
    finally:
        full.clear()
        working.join(20)
    assert {queue.get(job_id).status for job_id in ids} == {"succeeded"}


def test_patience_with_postgres_ends_before_the_lease_does(
    queue: Queue, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Ticking()
    child = make_child(database_url, redis_url, clock=clock)

    def away(*_: object) -> None:
        clock.now += 10
        raise Unavailable("gone")

    monkeypatch.setattr(pipeline, "settle", away)
    monkeypatch.setattr(pipeline, "SETTLE_RETRY_S", 0)
    queue.submit()
    with pytest.raises(Unavailable):
        drain(child, queue.echo, Lane.INTERACTIVE)
    assert clock.now <= child.settings.lease_ttl_s


def test_a_sibling_whose_process_is_gone_is_found_at_once(
    queue: Queue, database_url: str, redis_url: str
) -> None:
    no_such_process = 2**22 + 1
    dead = make_child(database_url, redis_url, pid=no_such_process)
    dead.ensure_announced()
    job_id = queue.submit()
    queue.claim(dead.identity)
    make_child(database_url, redis_url).ensure_announced()
    (found,) = rescue.orphaned_workers(queue.engine)
    assert found == dead.identity.id
    rescue.rescue(queue.engine, found, 3)
    assert queue.get(job_id).status == "queued"


def test_a_zombie_starts_over_under_a_new_name(queue: Queue, child: Child) -> None:
    child.ensure_announced()
    first = child.identity.id
    queue.execute("UPDATE workers SET state = 'dead', cause = 'lost'")
    assert queue.claim(child.identity) == []
    child.heartbeat()
    assert child.identity.id != first
    assert queue.execute("SELECT state FROM workers WHERE id = :id", id=child.identity.id) == [("ready",)]


# The order that loses no wake-up ------------------------------------------------------------------


def _interleavings(left: list[str], right: list[str]) -> Iterator[list[str]]:
    for places in itertools.combinations(range(len(left) + len(right)), len(left)):
        merged, lefts, rights = [], iter(left), iter(right)
        for index in range(len(left) + len(right)):
            merged.append(next(lefts) if index in places else next(rights))
        yield merged


def _lost_wake_ups(queue: Queue, redis_url: str, worker_order: list[str]) -> list[list[str]]:
    """Orders in which a job ends neither claimed nor announced. The worker answers an earlier bell."""
    ringer, worker = Ringer(SecretStr(redis_url)), queue.worker()
    bell = doorbell_for(queue.echo, Lane.INTERACTIVE)
    lost = []
    for order in _interleavings(["commit", "ring"], worker_order):
        with redis.Redis.from_url(redis_url) as client:
            client.flushall()
            ringer.ring(bell)
            client.lpop("cpu.interactive")  # the worker has the message; the flag is still up
        steps: dict[str, Callable[[], object]] = {
            "commit": queue.submit,
            "ring": lambda: ringer.ring(bell),
            "clear": lambda: ringer.clear(bell),
            "claim": lambda: queue.claim(worker),
        }
        for step in order:
            steps[step]()
        left = queue.execute("SELECT count(*) FROM job_ready")[0][0]
        if left and not ringer.waiting("cpu.interactive"):
            lost.append(order)
        queue.execute("DELETE FROM job_ready")
    return lost


def test_commit_then_ring_and_clear_then_claim_lose_no_wake_up(queue: Queue, redis_url: str) -> None:
    assert _lost_wake_ups(queue, redis_url, ["clear", "claim"]) == []


def test_claim_then_clear_would_lose_some(queue: Queue, redis_url: str) -> None:
    """The proof can fail: the other order does lose wake-ups."""
    assert ["claim", "commit", "ring", "clear"] in _lost_wake_ups(queue, redis_url, ["claim", "clear"])
