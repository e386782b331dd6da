"""What may happen to a batch on its way: a cancel, an end of its time, others beside it, a lost lease."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.db import batch_steps, batch_work, cancel, conservation, rescue, upkeep
from app.db.batch_work import Lease, LeaseLost
from app.db.engine import transaction
from app.domain.ids import batch_of, item_uuid
from app.domain.lanes import Lane
from app.domain.stages import BatchBell
from tests.support.bulk import Bulk, line
from tests.support.jobs import failed, succeeded
from workers.settle import settle


def test_a_batch_cancelled_before_its_file_was_read_has_no_jobs(bulk: Bulk) -> None:
    batch_id = bulk.create([line(1)])
    bulk.cancel(batch_id)
    bulk.clerk.bookkeep()
    row = bulk.get(batch_id)
    assert (row.status, row.total, row.output_file_id, row.error_file_id) == ("cancelled", 0, None, None)


def test_a_cancel_while_the_file_is_read_wins(bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    batch_id = bulk.create([line(1)])
    before = batch_steps.validated

    def cancelled_meanwhile(*arguments: Any) -> bool:
        bulk.cancel(batch_id)
        return before(*arguments)

    monkeypatch.setattr(batch_steps, "validated", cancelled_meanwhile)
    bulk.clerk.bookkeep()
    assert bulk.get(batch_id).status == "cancelled"
    assert bulk.queue.execute("SELECT count(*) FROM jobs") == [(0,)]


def test_a_cancel_keeps_what_is_done_and_asks_what_runs(bulk: Bulk) -> None:
    batch_id = bulk.create([line(n) for n in range(50)], webhook="https://example.com/b")
    bulk.clerk.bookkeep()
    worker = bulk.queue.worker(queues=("cpu.batch",))
    bulk.run_some(worker, 5)
    running = bulk.queue.claim(worker, 3, Lane.BATCH)
    bulk.queue.execute(
        "INSERT INTO job_deferred (job_id, version_id, lane, priority, rank, expires_at, tenant_id, run_at)"
        " SELECT job_id, version_id, lane, priority, rank, expires_at, tenant_id, now()"
        "  FROM job_ready LIMIT 1"
    )
    bulk.queue.execute("DELETE FROM job_ready WHERE job_id IN (SELECT job_id FROM job_deferred)")
    bulk.cancel(batch_id)
    bulk.clerk.bookkeep()
    assert bulk.get(batch_id).status == "cancelling"
    assert bulk.counts(batch_id) == {"succeeded": 5, "failed": 0, "canceled": 42, "expired": 0}
    assert cancel.asked(bulk.queue.engine, worker.id) == {job.id for job in running}
    settle(bulk.queue.engine, worker, [succeeded(job) for job in running])
    row = bulk.finish(batch_id)
    assert (row.status, row.total, row.ingested) == ("cancelled", 50, 50)
    output, error = bulk.outputs(batch_id)
    assert [one["custom_id"] for one in output] == ["0", "1", "2", "3", "4"]
    assert [one["custom_id"] for one in error] == [str(n) for n in range(5, 50)]
    assert {one["error"]["code"] for one in error} == {"batch_cancelled"}
    assert bulk.queue.execute("SELECT event FROM webhook_deliveries") == [("batch.cancelled",)]
    assert not conservation.check(bulk.queue.engine).violations


@pytest.fixture
def small(database_url: str, redis_url: str, tmp_path: Any) -> Any:
    opened = Bulk.open(database_url, redis_url, tmp_path / "storage", chunk=10)
    yield opened
    opened.close()


def test_lines_that_were_no_jobs_yet_are_cancelled_too(small: Bulk) -> None:
    hook = {"webhook": "https://example.com/j"}
    batch_id = small.create([line(n, **(hook if n == 20 else {})) for n in range(35)])
    clerk = small.hurried_clerk()
    while not small.get(batch_id).ingested:
        small.step(clerk)
    assert small.get(batch_id).ingested == 10
    small.cancel(batch_id)
    row = small.finish(batch_id)
    assert (row.status, row.ingested) == ("cancelled", 35)
    _, error = small.outputs(batch_id)
    assert [one["custom_id"] for one in error] == [str(n) for n in range(35)]
    assert small.queue.execute("SELECT event, job_id FROM webhook_deliveries") == [
        ("job.completed", item_uuid(batch_id, 21))
    ]
    assert not conservation.check(small.queue.engine).violations


def test_a_batch_past_its_time_ends_as_expired_with_every_line(small: Bulk) -> None:
    batch_id = small.create([line(n) for n in range(35)])
    clerk = small.hurried_clerk()
    while small.get(batch_id).ingested < 20:
        small.step(clerk)
    worker = small.queue.worker(queues=("cpu.batch",))
    small.run_some(worker, 5)
    past = "now() - interval '1 second'"
    small.queue.execute(f"UPDATE batches SET expires_at = {past}")
    small.queue.execute(f"UPDATE job_ready SET expires_at = {past}")
    assert len(upkeep.expire(small.queue.engine)) == 15
    row = small.finish(batch_id)
    assert (row.status, row.total) == ("expired", 35)
    output, error = small.outputs(batch_id)
    assert [one["custom_id"] for one in [*output, *error]] == [str(n) for n in range(35)]
    assert len(output) == 5
    assert {one["error"]["code"] for one in error} == {"batch_expired"}
    assert not conservation.check(small.queue.engine).violations


def test_jobs_expire_with_their_batch_or_sooner_if_they_say_so(bulk: Bulk) -> None:
    batch_id = bulk.create(
        [line(1), line(2, policy={"queue_ttl_s": 60}), line(3, policy={"queue_ttl_s": 9000})], window_s=3600
    )
    bulk.clerk.bookkeep()
    latest = bulk.get(batch_id).expires_at
    rows = bulk.queue.execute("SELECT expires_at, created_at FROM jobs ORDER BY id")
    assert [rows[0].expires_at, rows[2].expires_at] == [latest, latest]
    assert (rows[1].expires_at - rows[1].created_at).total_seconds() == 60
    assert bulk.queue.execute(
        "SELECT count(*) FROM job_ready r JOIN jobs j ON j.id = r.job_id WHERE r.expires_at = j.expires_at"
    ) == [(3,)]


def test_every_way_to_end_is_counted_at_once(bulk: Bulk) -> None:
    batch_id = bulk.create([line(n, retry={"max_attempts": 1}) for n in range(20)])
    bulk.clerk.bookkeep()
    worker = bulk.queue.worker(queues=("cpu.batch",))
    claimed = bulk.queue.claim(worker, 6, Lane.BATCH)
    settle(bulk.queue.engine, worker, [*map(succeeded, claimed[:3]), *map(failed, claimed[3:5])])
    assert bulk.counts(batch_id) == {"succeeded": 3, "failed": 2, "canceled": 0, "expired": 0}
    bulk.queue.execute(
        "UPDATE workers SET state = 'dead', cause = 'crashed', batch = :batch WHERE id = :id",
        batch=[claimed[5].id],
        id=worker.id,
    )
    rescue.rescue(bulk.queue.engine, worker.id, 1)
    cancel.cancel(bulk.queue.engine, item_uuid(batch_id, 10))
    bulk.queue.execute(
        "UPDATE job_ready SET expires_at = now() WHERE job_id = :id", id=item_uuid(batch_id, 12)
    )
    upkeep.expire(bulk.queue.engine)
    expected = {"succeeded": 3, "failed": 3, "canceled": 1, "expired": 1}
    assert bulk.counts(batch_id) == expected
    bulk.queue.execute("UPDATE batch_tallies SET at = now() - interval '2 minutes'")
    batch_work.compact(bulk.queue.engine, batch_id)
    assert bulk.queue.execute("SELECT count(*) FROM batch_tallies") == [(1,)]
    assert bulk.counts(batch_id) == expected
    assert not conservation.check(bulk.queue.engine).violations
    bulk.queue.execute("UPDATE batch_tallies SET succeeded = succeeded + 1")
    (violation,) = conservation.check(bulk.queue.engine).violations
    assert "tallies" in violation.problem


def test_jobs_of_the_other_lane_leave_no_tallies(bulk: Bulk) -> None:
    bulk.queue.submit()
    worker = bulk.queue.worker()
    settle(bulk.queue.engine, worker, [succeeded(job) for job in bulk.queue.claim(worker)])
    assert bulk.queue.execute("SELECT count(*) FROM batch_tallies") == [(0,)]


def test_ten_jobs_come_among_the_first_twenty_whatever_another_tenant_has_waiting(bulk: Bulk) -> None:
    many = bulk.create([line(n) for n in range(1000)])
    bulk.clerk.bookkeep()
    worker = bulk.queue.worker(queues=("cpu.batch",))
    bulk.run_some(worker, 100)
    few = bulk.create_for_other_tenant([line(n) for n in range(10)])
    bulk.clerk.bookkeep()
    order = [batch_of(job.id) for job in bulk.queue.claim(worker, 40, Lane.BATCH)]
    assert order.count(few) == 10
    assert few not in order[20:]
    assert order[:20].count(many) == 10


def test_a_tenant_gains_nothing_by_many_batches(bulk: Bulk) -> None:
    first = bulk.create([line(n) for n in range(50)])
    second = bulk.create([line(n) for n in range(50)])
    bulk.clerk.bookkeep()
    worker = bulk.queue.worker(queues=("cpu.batch",))
    order = [batch_of(job.id) for job in bulk.queue.claim(worker, 100, Lane.BATCH)]
    assert order == [first] * 50 + [second] * 50


def test_a_clerk_that_lost_its_lease_writes_nothing(bulk: Bulk) -> None:
    batch_id = bulk.create([line(n) for n in range(5)])
    lease = bulk.claim()
    bulk.queue.execute("UPDATE workers SET state = 'dead', cause = 'lost'")
    assert batch_work.rescue(bulk.queue.engine) == [batch_id]
    stale = Lease(batch_id, lease.epoch)
    with pytest.raises(LeaseLost):
        batch_steps.validated(bulk.queue.engine, stale, 5, 0, {}, [])
    with pytest.raises(LeaseLost):
        batch_steps.ended(bulk.queue.engine, stale, "completed")
    assert bulk.clerk._get_on(stale) is False
    row = bulk.get(batch_id)
    assert (row.status, row.ingested) == ("validating", 0)
    other = bulk.new_clerk()
    other.bookkeep()
    assert bulk.get(batch_id).ingested == 5
    bulk.clerk._get_on(stale)
    assert bulk.queue.execute("SELECT count(*) FROM jobs") == [(5,)]


def test_a_clerk_frozen_in_a_transaction_keeps_no_other_batch_from_being_rescued(bulk: Bulk) -> None:
    frozen, other = bulk.create([line(1)]), bulk.create([line(2)])
    lease = bulk.claim()
    bulk.claim()
    bulk.queue.execute("UPDATE workers SET state = 'dead', cause = 'lost'")
    with transaction(bulk.clerk.engine) as connection:
        batch_work.hold(connection, lease)
        assert batch_work.rescue(bulk.queue.engine) == [other]
    assert batch_work.rescue(bulk.queue.engine) == [frozen]


def test_the_last_drain_rings_for_the_clerk(bulk: Bulk) -> None:
    batch_id = bulk.create([line(1)])
    bulk.clerk.bookkeep()
    assert not bulk.clerk.ringer.rung(BatchBell.queue)
    bulk.work()
    assert bulk.clerk.ringer.rung(BatchBell.queue)
    bulk.clerk.bookkeep()
    assert bulk.get(batch_id).status == "completed"


def test_a_change_while_a_clerk_works_on_a_batch_is_seen_when_it_is_done(bulk: Bulk) -> None:
    batch_id = bulk.create([line(1)])
    bulk.clerk.bookkeep()
    bulk.due(batch_id)
    lease = bulk.claim()
    bulk.cancel(batch_id)
    batch_work.let_go(bulk.queue.engine, lease, 3600)
    assert batch_work.any_due(bulk.queue.engine)


def test_old_batches_are_forgotten_with_what_is_known_of_them(bulk: Bulk) -> None:
    kept = bulk.create([line(1)])
    gone = bulk.create(b"nonsense")
    bulk.clerk.bookkeep()
    assert batch_steps.prune(bulk.queue.engine, datetime.now(UTC) + timedelta(hours=1)) == 1
    assert bulk.queue.execute("SELECT id FROM batches") == [(kept,)]
    assert gone != kept
    assert bulk.queue.execute("SELECT count(*) FROM batch_errors") == [(0,)]
