"""claim and settle: leases with epochs, fenced writes, retries, order."""

import secrets
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import orjson
import pytest

from app.db import cancel, claim, conservation, upkeep, workers
from app.domain.lanes import Lane, Priority
from app.domain.retry import RetryPolicy
from app.domain.stages import Canceled, Outcome, Released
from app.domain.states import JobStatus, Reason
from tests.support.jobs import Queue, failed, succeeded
from workers.settle import settle


def test_a_claim_takes_the_most_urgent_first_and_no_more_than_asked(queue: Queue) -> None:
    low = queue.submit(priority=Priority.LOW)
    normal = [queue.submit() for _ in range(2)]
    high = queue.submit(priority=Priority.HIGH)
    worker = queue.worker()
    assert [job.id for job in queue.claim(worker, 3)] == [high, *normal]
    assert [job.id for job in queue.claim(worker, 3)] == [low]
    assert queue.claim(worker, 3) == []


def test_lanes_are_claimed_apart(queue: Queue) -> None:
    batch = queue.submit(lane=Lane.BATCH)
    worker = queue.worker()
    assert queue.claim(worker) == []
    assert [job.id for job in queue.claim(worker, lane=Lane.BATCH)] == [batch]


def test_concurrent_claims_share_the_queue_without_overlap(queue: Queue) -> None:
    ids = {queue.submit() for _ in range(200)}
    crew = [queue.worker() for _ in range(4)]

    def work(number: int) -> list[UUID]:
        taken: list[UUID] = []
        version_id = queue.echo.id
        while claimed := claim.claim(queue.engine, crew[number].id, version_id, Lane.INTERACTIVE, 7, 60).jobs:
            taken += [job.id for job in claimed]
        return taken

    with ThreadPoolExecutor(4) as pool:
        shares = list(pool.map(work, range(4)))
    taken = [job_id for share in shares for job_id in share]
    assert len(taken) == len(set(taken))
    # A claim may come back short while another holds the rows; what is left is still ready.
    left = queue.execute("SELECT count(*) FROM job_ready")[0][0]
    assert set(taken) <= ids
    assert len(taken) + left == 200


def test_every_claim_has_its_own_epoch(queue: Queue) -> None:
    queue.submit()
    worker = queue.worker()
    (first,) = queue.claim(worker)
    settle(queue.engine, worker, [Outcome(first, Released(Reason.PREEMPTED))])
    (second,) = queue.claim(worker)
    assert second.epoch > first.epoch
    assert second.attempt == first.attempt == 0


def test_a_result_is_written_once_and_never_changed(queue: Queue) -> None:
    job_id, worker = queue.submit(), queue.worker()
    (job,) = queue.claim(worker)
    assert [row.status for row in settle(queue.engine, worker, [succeeded(job, b'{"n":1}')])] == ["succeeded"]
    assert settle(queue.engine, worker, [succeeded(job, b'{"n":2}')]) == []
    assert settle(queue.engine, worker, [failed(job)]) == []
    row = queue.get(job_id)
    assert (row.status, orjson.loads(row.output)) == ("succeeded", {"n": 1})
    assert [attempt["outcome"] for attempt in row.attempts] == ["succeeded"]


def test_a_stale_epoch_writes_nothing_in_a_mixed_settle(queue: Queue) -> None:
    stale_id, fresh_id = queue.submit(), queue.submit()
    zombie, heir = queue.worker(), queue.worker()
    stale, fresh = queue.claim(zombie)
    settle(queue.engine, heir, [Outcome(stale, Released(Reason.PREEMPTED))])
    (again,) = queue.claim(heir)
    assert again.id == stale_id
    settled = settle(queue.engine, zombie, [succeeded(stale, b'"late"'), succeeded(fresh, b'"mine"')])
    assert [row.id for row in settled] == [fresh_id]
    assert queue.get(stale_id).status == "running"
    settle(queue.engine, heir, [succeeded(again, b'"heir"')])
    assert queue.output(stale_id) == "heir"


def test_a_retryable_error_waits_and_counts(queue: Queue) -> None:
    job_id, worker = queue.submit(retry=RetryPolicy(2, 1000, 60_000)), queue.worker()
    (job,) = queue.claim(worker)
    settle(queue.engine, worker, [failed(job, retryable=True)], jitter=lambda: 0.0)
    row = queue.get(job_id)
    assert (row.status, row.reason) == ("queued", "retry_backoff")
    (delay,) = queue.execute("SELECT extract(epoch FROM run_at - now()) FROM job_deferred")[0]
    assert 0.3 < delay <= 0.5
    queue.execute("UPDATE job_deferred SET run_at = now()")
    assert upkeep.promote(queue.engine) == 1
    (again,) = queue.claim(worker)
    assert again.attempt == 1
    settle(queue.engine, worker, [failed(again, retryable=True)])
    row = queue.get(job_id)
    assert (row.status, row.error) == ("failed", {"code": "model_error", "message": "boom"})
    assert [attempt["attempt"] for attempt in row.attempts] == [1, 2]


def test_a_final_error_fails_alone(queue: Queue) -> None:
    ids, worker = [queue.submit() for _ in range(3)], queue.worker()
    first, second, third = queue.claim(worker)
    settle(queue.engine, worker, [succeeded(first), failed(second), succeeded(third)])
    assert [queue.get(job_id).status for job_id in ids] == ["succeeded", "failed", "succeeded"]


@pytest.mark.parametrize("place", ["ready", "deferred"])
def test_cancel_ends_a_waiting_job_at_once(queue: Queue, place: str) -> None:
    job_id, worker = queue.submit(), queue.worker()
    if place == "deferred":
        settle(queue.engine, worker, [failed(queue.claim(worker)[0], retryable=True)])
    assert cancel.cancel(queue.engine, job_id) is JobStatus.CANCELED
    assert cancel.cancel(queue.engine, job_id) is JobStatus.CANCELED
    assert queue.get(job_id).status == "canceled"
    assert not conservation.check(queue.engine).violations


def test_cancel_asks_a_running_job_and_settle_obeys(queue: Queue) -> None:
    ids, worker = [queue.submit() for _ in range(3)], queue.worker()
    first, second, third = queue.claim(worker)
    assert cancel.cancel(queue.engine, ids[0]) is JobStatus.RUNNING
    assert queue.get(ids[0]).reason == "cancel_requested"
    assert cancel.asked(queue.engine, worker.id) == {ids[0]}
    settle(
        queue.engine, worker, [succeeded(first, b'"too late"'), succeeded(second), Outcome(third, Canceled())]
    )
    assert [queue.get(job_id).status for job_id in ids] == ["canceled", "succeeded", "canceled"]
    assert queue.output(ids[0]) is None


def test_cancel_never_changes_an_end(queue: Queue) -> None:
    job_id, worker = queue.submit(), queue.worker()
    settle(queue.engine, worker, [succeeded(queue.claim(worker)[0])])
    assert cancel.cancel(queue.engine, job_id) is JobStatus.SUCCEEDED
    assert cancel.cancel(queue.engine, UUID(int=1)) is None


def test_cancels_racing_with_claims_lose_no_job(queue: Queue) -> None:
    ids, worker = [queue.submit() for _ in range(120)], queue.worker()

    def claim_and_settle() -> None:
        while claimed := queue.claim(worker, 5):
            settle(queue.engine, worker, [succeeded(job) for job in claimed])

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(claim_and_settle) for _ in range(2)]
        answers = list(pool.map(lambda job_id: cancel.cancel(queue.engine, job_id), ids))
        for future in working:
            future.result()
    claim_and_settle()
    assert None not in answers
    report = conservation.check(queue.engine)
    assert report.counts["results"] == 120
    assert not report.violations


def test_the_worker_names_what_it_has_in_hand_until_it_settles(queue: Queue) -> None:
    ids, worker = [queue.submit(), queue.submit()], queue.worker()
    claimed = queue.claim(worker)
    ((in_hand,),) = queue.execute("SELECT batch FROM workers")
    assert set(in_hand) == set(ids)
    workers.mark(queue.engine, worker.id, ids[:1], 5)
    assert queue.execute("SELECT batch FROM workers") == [(ids[:1],)]
    settle(queue.engine, worker, [succeeded(job) for job in claimed])
    assert queue.execute("SELECT batch, batch_deadline_at FROM workers") == [([], None)]


def test_a_worker_that_was_declared_dead_claims_nothing(queue: Queue) -> None:
    queue.submit()
    worker = queue.worker()
    workers.bury(queue.engine, [worker.id])
    assert queue.claim(worker) == []
    assert workers.heartbeat(queue.engine, worker.id, {}) is None


def test_an_expired_job_is_not_claimed(queue: Queue) -> None:
    queue.submit(queue_ttl_s=-1.0)
    assert queue.claim(queue.worker()) == []


def test_a_claim_takes_no_more_bytes_than_asked_but_always_one_job(queue: Queue) -> None:
    # Random, so that it is stored as large as it is.
    ids = [queue.submit({"text": secrets.token_hex(20_000)}) for _ in range(4)]
    worker, version_id = queue.worker(), queue.echo.id

    def take(most_bytes: int) -> tuple[list[UUID], bool]:
        claimed = claim.claim(
            queue.engine, worker.id, version_id, Lane.INTERACTIVE, 32, 60, most_bytes=most_bytes
        )
        return [job.id for job in claimed.jobs], claimed.more

    assert take(100_000) == (ids[:2], True)
    assert take(1) == (ids[2:3], True)
    assert take(100_000) == (ids[3:], False)
