"""The outbox: an event exists if and only if the state does, once for everyone who wants it."""

from typing import Any

import pytest

from app.db import cancel, deliveries, endpoints, rescue, upkeep
from app.db import workers as workers_sql
from app.domain.delivery import DeliveryStatus, TryError
from app.domain.stages import WorkerIdentity
from tests.support.jobs import Queue, failed, settings_for, succeeded
from tests.support.outbox import Outbox
from workers.settle import settle as settle_outcomes

URL = "https://example.com/hook"


@pytest.fixture
def queue(database_url: str) -> Queue:
    return Queue.open(database_url)


@pytest.fixture
def outbox(queue: Queue, database_url: str) -> Outbox:
    return Outbox(queue, settings_for(database_url, "redis://127.0.0.1:1/0"))


@pytest.fixture
def sender(queue: Queue) -> WorkerIdentity:
    return queue.worker(name="sender/0", queues=("webhooks",))


def events(outbox: Outbox) -> list[tuple[str, str, str]]:
    return [(row.event, row.url, row.status) for row in outbox.deliveries()]


def claim(outbox: Outbox, sender: WorkerIdentity, **changes: Any) -> list[deliveries.ClaimedDelivery]:
    asked: dict[str, Any] = {"window": 100, "room": 100, "rooms": {}}
    return list(deliveries.claim(outbox.queue.engine, sender.id, **{**asked, **changes}).deliveries)


def delivered(one: deliveries.ClaimedDelivery) -> deliveries.SettledTry:
    return deliveries.SettledTry(one.id, one.epoch, DeliveryStatus.DELIVERED, status_code=204, latency_s=0.1)


def test_a_job_tells_its_own_url_and_every_endpoint_that_wants_it(outbox: Outbox) -> None:
    outbox.endpoint("https://example.com/all", "job.completed", "job.started")
    outbox.endpoint("https://example.com/batches", "batch.completed")
    (job,) = outbox.finish(webhook=URL, webhook_events=("completed",))
    told = outbox.deliveries()
    assert sorted((row.event, row.url) for row in told) == [
        ("job.completed", "https://example.com/all"),
        ("job.completed", URL),
        ("job.started", "https://example.com/all"),
    ]
    assert {row.job_id for row in told} == {job}
    assert {row.status for row in told} == {"pending"}
    assert len({row.id for row in told}) == 3


def test_ids_are_uuid7_by_the_databases_clock(outbox: Outbox) -> None:
    outbox.finish(20, webhook=URL, webhook_events=("completed",))
    for row in outbox.deliveries():
        assert row.id.version == 7
        assert row.id.variant == "specified in RFC 4122"
        assert abs((row.id.int >> 80) / 1000 - row.created_at.timestamp()) < 2


def test_a_job_without_a_listener_writes_nothing(outbox: Outbox) -> None:
    outbox.finish()
    assert outbox.deliveries() == []


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (("started",), ["job.started"]),
        (("started", "completed"), ["job.started", "job.completed"]),
        (("completed",), ["job.completed"]),
    ],
)
def test_a_jobs_url_gets_what_its_filter_says(
    outbox: Outbox, wanted: tuple[str, ...], expected: list[str]
) -> None:
    outbox.finish(webhook=URL, webhook_events=wanted)
    assert [row.event for row in outbox.deliveries()] == expected


def test_another_tenant_is_told_nothing(outbox: Outbox) -> None:
    outbox.endpoint(URL)
    outbox.queue.execute("INSERT INTO tenants (name) VALUES ('other')")
    other = outbox.queue.execute("SELECT id FROM tenants WHERE name = 'other'")[0][0]
    outbox.finish(tenant_id=other)
    assert outbox.deliveries() == []


def test_a_failed_attempt_that_is_tried_again_is_no_end(outbox: Outbox, queue: Queue) -> None:
    queue.submit(webhook=URL, webhook_events=("started", "completed"))
    worker = queue.worker()
    (job,) = queue.claim(worker)
    settle_outcomes(queue.engine, worker, [failed(job, retryable=True)], jitter=lambda: 0.0)
    assert events(outbox) == [("job.started", URL, "pending")]
    queue.execute("UPDATE job_deferred SET run_at = now()")
    upkeep.promote(queue.engine)
    queue.execute("UPDATE job_ready SET attempt = attempt")
    (job,) = queue.claim(worker)
    settle_outcomes(queue.engine, worker, [failed(job)])
    assert events(outbox) == [("job.started", URL, "pending"), ("job.completed", URL, "pending")]


def test_a_zombies_settle_tells_nothing(outbox: Outbox, queue: Queue) -> None:
    queue.submit(webhook=URL, webhook_events=("completed",))
    worker = queue.worker()
    (job,) = queue.claim(worker)
    workers_sql.stop(queue.engine, worker.id)
    rescue.rescue(queue.engine, worker.id, max_crashes=3)
    assert settle_outcomes(queue.engine, worker, [succeeded(job)]) == []
    assert outbox.deliveries() == []


def test_settle_says_what_was_told(outbox: Outbox, queue: Queue) -> None:
    quiet, loud = queue.submit(), queue.submit(webhook=URL, webhook_events=("completed",))
    worker = queue.worker()
    settled = settle_outcomes(queue.engine, worker, [succeeded(job) for job in queue.claim(worker)])
    assert {job.id: job.told for job in settled} == {quiet: False, loud: True}


def test_a_cancel_is_an_end(outbox: Outbox, queue: Queue) -> None:
    job = queue.submit(webhook=URL, webhook_events=("completed",))
    cancel.cancel(queue.engine, job)
    cancel.cancel(queue.engine, job)
    assert events(outbox) == [("job.completed", URL, "pending")]


def test_expiry_is_an_end(outbox: Outbox, queue: Queue) -> None:
    queue.submit(webhook=URL, webhook_events=("completed",))
    queue.execute("UPDATE job_ready SET expires_at = now()")
    upkeep.expire(queue.engine)
    assert events(outbox) == [("job.completed", URL, "pending")]


def test_a_crash_too_many_is_an_end(outbox: Outbox, queue: Queue) -> None:
    queue.submit(webhook=URL, webhook_events=("completed",))
    worker = queue.worker()
    queue.claim(worker)
    workers_sql.bury(queue.engine, [worker.id])
    assert len(rescue.rescue(queue.engine, worker.id, max_crashes=1)) == 1
    assert events(outbox) == [("job.completed", URL, "pending")]


def test_a_disabled_endpoint_gets_failed_deliveries(outbox: Outbox, queue: Queue) -> None:
    endpoint = outbox.endpoint(URL)
    endpoints.update(queue.engine, queue.tenant_id, endpoint, status="disabled")
    outbox.finish()
    (row,) = outbox.deliveries()
    assert (row.status, row.error) == ("failed", "endpoint_disabled")
    assert not deliveries.any_due(queue.engine)


def test_each_target_has_its_own_room(outbox: Outbox, sender: WorkerIdentity) -> None:
    slow, fast = outbox.endpoint("https://slow.example"), outbox.endpoint("https://fast.example")
    outbox.finish(10)
    first = claim(outbox, sender, room=4, rooms={str(slow): 1})
    assert sorted(one.endpoint_id for one in first) == sorted([slow] + [fast] * 4)
    assert {one.endpoint_id for one in claim(outbox, sender, rooms={str(slow): 0})} == {fast}
    assert claim(outbox, sender, rooms={str(slow): 0}) == []


def test_the_window_bounds_a_claim_and_no_target_is_always_last(
    outbox: Outbox, sender: WorkerIdentity
) -> None:
    for number in range(6):
        outbox.endpoint(f"https://example.com/{number}")
    outbox.finish(20)
    first = set()
    for _ in range(20):
        (one,) = claim(outbox, sender, window=1)
        first.add(one.endpoint_id)
    assert len(first) > 1, "the order of targets is random"


def test_a_claim_looks_at_so_many_targets_and_the_next_one_goes_on(
    outbox: Outbox, sender: WorkerIdentity, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries, "HOPS", 3)
    for number in range(7):
        outbox.finish(webhook=f"https://{number}.example/", webhook_events=("completed",))
    after, seen = "", []
    for _ in range(3):
        claimed = deliveries.claim(outbox.queue.engine, sender.id, window=100, room=1, rooms={}, after=after)
        seen.append(len(claimed.deliveries))
        after = claimed.reached
    assert (seen, after) == ([3, 3, 1], "")


def test_a_tenants_urls_of_one_origin_are_one_target(outbox: Outbox, sender: WorkerIdentity) -> None:
    for url in ("https://a.example/1", "https://A.example/2?x", "https://b.example/1"):
        outbox.finish(webhook=url, webhook_events=("completed",))
    tenant = outbox.queue.tenant_id
    assert sorted(one.target for one in claim(outbox, sender)) == [
        f"{tenant} https://a.example",
        f"{tenant} https://a.example",
        f"{tenant} https://b.example",
    ]


def test_a_stale_epoch_settles_nothing(outbox: Outbox, queue: Queue, sender: WorkerIdentity) -> None:
    outbox.finish(webhook=URL, webhook_events=("completed",))
    (one,) = claim(outbox, sender)
    workers_sql.stop(queue.engine, sender.id)
    assert deliveries.orphaned_workers(queue.engine) == [sender.id]
    assert deliveries.rescue(queue.engine, sender.id) == 1
    assert deliveries.settle(queue.engine, [delivered(one)]).ids == frozenset()
    (row,) = outbox.deliveries()
    assert row.status == "pending"
    assert [(one["attempt"], one["error"]) for one in row.attempts] == [(1, "sender_lost")]


def test_a_live_senders_leases_are_not_taken(outbox: Outbox, queue: Queue, sender: WorkerIdentity) -> None:
    outbox.finish(webhook=URL, webhook_events=("completed",))
    assert len(claim(outbox, sender)) == 1
    assert deliveries.orphaned_workers(queue.engine) == []
    assert deliveries.rescue(queue.engine, sender.id) == 0
    assert deliveries.depths(queue.engine)[0] == {"due": 0, "waiting": 0, "sending": 1}


def test_a_sender_that_was_declared_dead_claims_nothing(
    outbox: Outbox, queue: Queue, sender: WorkerIdentity
) -> None:
    outbox.finish(webhook=URL, webhook_events=("completed",))
    workers_sql.bury(queue.engine, [sender.id])
    assert claim(outbox, sender) == []


def test_one_bad_delivery_in_a_settle_does_not_touch_the_others(
    outbox: Outbox, queue: Queue, sender: WorkerIdentity
) -> None:
    outbox.finish(3, webhook=URL, webhook_events=("completed",))
    first, second, third = claim(outbox, sender)
    retried = deliveries.SettledTry(
        second.id, second.epoch, DeliveryStatus.PENDING, TryError.TIMEOUT, delay_s=60.0, latency_s=15.0
    )
    given_back = deliveries.SettledTry(third.id, third.epoch, DeliveryStatus.PENDING, tried=False)
    deliveries.settle(queue.engine, [delivered(first), retried, given_back])
    rows = {row.id: row for row in outbox.deliveries()}
    assert [rows[one.id].status for one in (first, second, third)] == ["delivered", "pending", "pending"]
    assert [len(rows[one.id].attempts or ()) for one in (first, second, third)] == [1, 1, 0]
    (again,) = claim(outbox, sender)
    assert (again.id, again.attempt) == (third.id, 0), "what was given back cost no try, and is due"


def test_the_statement_is_all_or_nothing(outbox: Outbox, queue: Queue) -> None:
    """No result without its delivery: when the outbox can't be written, the job stays leased."""
    queue.submit(webhook=URL, webhook_events=("completed",))
    worker = queue.worker()
    (job,) = queue.claim(worker)
    queue.execute("ALTER TABLE webhook_queue ADD CONSTRAINT never CHECK (false) NOT VALID")
    with pytest.raises(Exception, match="never"):
        settle_outcomes(queue.engine, worker, [succeeded(job)])
    assert queue.get(job.id).status == "running"
    assert outbox.deliveries() == []
