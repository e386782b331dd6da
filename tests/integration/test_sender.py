"""The sender, in the test's own process, on real Postgres and Valkey, against a real receiver on loopback."""

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from app.broker.ring import Ringer
from app.db import deliveries, delivery_log, endpoints, erase
from app.db.engine import make_engine
from app.domain.delivery import DELAYS_S
from app.domain.draining import DrainCause
from app.domain.ids import format_id, new_uuid
from app.domain.sealing import Keyring
from app.domain.signature import new_secret
from app.domain.stages import DeliveryBell, WorkerIdentity
from app.intake import view
from app.settings import Settings
from tests.support.jobs import Queue, settings_for, succeeded
from tests.support.outbox import Clock, Outbox
from tests.support.receiver import Received, Receiver, receiver
from tests.support.waiting import wait_until
from workers.drainflag import DrainFlag
from workers.maintenance.rescue import Rescue
from workers.notify import Notifier
from workers.settle import settle
from workers.webhooks.sender import Sender

DAY_S = 86_400


async def never(_: Received) -> web.Response:
    """A receiver that does not answer."""
    await asyncio.Event().wait()
    return web.Response()


@pytest.fixture
def queue(database_url: str) -> Queue:
    return Queue.open(database_url)


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return settings_for(
        database_url,
        redis_url,
        allow_local_webhooks=True,
        api={"public_url": "http://headrace.test"},
        worker={"linger_s": 0},
    )


@pytest.fixture
def outbox(queue: Queue, settings: Settings) -> Outbox:
    return Outbox(queue, settings)


@pytest.fixture
def hooks() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture
def make_sender(settings: Settings) -> Iterator[Callable[..., Sender]]:
    made: list[Sender] = []

    def make(**changes: Any) -> Sender:
        of = changes.pop("settings", settings)
        identity = WorkerIdentity(
            new_uuid(), "sender/0", "nowhere", 1, "sender", "on_demand", "none", ("webhooks",)
        )
        parts: dict[str, Any] = {
            "engine": make_engine(of.database_url, pool_size=4, lookups_only=True),
            "ringer": Ringer(of.redis_url),
            "identity": identity,
            "settings": of,
            "flag": DrainFlag(),
            "jitter": lambda: 0.0,
        }
        if now := changes.get("now"):
            parts["clock"] = lambda: now().timestamp()
        made.append(Sender(**{**parts, **changes}))
        return made[-1]

    yield make
    for sender in made:
        sender.stop()


def default_secret(outbox: Outbox) -> str:
    keyring, tenant = Keyring.of(outbox.settings), outbox.queue.tenant_id
    owner = endpoints.tenant_owner(tenant)
    sealed = endpoints.default_secret(outbox.queue.engine, tenant, keyring.seal(new_secret(), owner)).secret
    return keyring.open(sealed, owner)


def only(outbox: Outbox) -> Any:
    (row,) = outbox.deliveries()
    return row


# What is sent


def test_a_delivery_is_the_job_signed_for_the_official_library(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    secret = default_secret(outbox)
    (job,) = outbox.finish(webhook=hooks.url(), webhook_events=("completed",), metadata={"k": "ü"})
    assert make_sender().deliver().as_result() == {
        "claimed": 1,
        "delivered": 1,
        "failed": 0,
        "ended": "empty",
    }
    (got,) = hooks.received
    row = only(outbox)
    assert got.id == format_id("dlv", row.id)
    assert got.headers["content-type"] == "application/json"
    assert got.headers["user-agent"].startswith("Headrace-Webhooks/")
    event = Webhook(secret).verify(got.body, got.headers)
    assert event["type"] == "job.completed"
    assert event["timestamp"] == view.moment(row.created_at)
    assert event["data"] == orjson.loads(
        orjson.dumps(view.job(outbox.queue.get(job), "http://headrace.test"))
    )
    assert (row.status, row.error) == ("delivered", None)
    assert [(one["attempt"], one["status_code"], one["error"]) for one in row.attempts] == [(1, 204, None)]


def test_a_changed_byte_an_old_timestamp_and_a_wrong_secret_fail(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    secret = default_secret(outbox)
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    make_sender().deliver()
    (got,) = hooks.received
    Webhook(secret).verify(got.body, got.headers)
    for body, headers, key in (
        (got.body.replace(b"succeeded", b"succeedee"), got.headers, secret),
        (got.body, {**got.headers, "webhook-id": "dlv_" + "0" * 32}, secret),
        (got.body, got.headers, new_secret()),
    ):
        with pytest.raises(WebhookVerificationError, match="No matching signature"):
            Webhook(key).verify(body, headers)
    stale = {**got.headers, "webhook-timestamp": str(int(got.headers["webhook-timestamp"]) - 301)}
    with pytest.raises(WebhookVerificationError, match="too old"):
        Webhook(secret).verify(got.body, stale)


def test_during_a_rotation_both_secrets_verify(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    old, new = new_secret(), new_secret()
    endpoint = outbox.endpoint(hooks.url(), secret=old)
    sealed = Keyring.of(outbox.settings).seal(new, endpoints.endpoint_owner(endpoint))
    endpoints.rotate(queue.engine, queue.tenant_id, endpoint, sealed, grace_s=3600)
    outbox.finish()
    make_sender().deliver()
    (got,) = hooks.received
    for secret in (old, new):
        Webhook(secret).verify(got.body, got.headers)


def test_after_the_grace_only_the_new_secret_signs(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    clock = Clock()
    old, new = new_secret(), new_secret()
    endpoint = outbox.endpoint(hooks.url(), secret=old)
    sealed = Keyring.of(outbox.settings).seal(new, endpoints.endpoint_owner(endpoint))
    endpoints.rotate(queue.engine, queue.tenant_id, endpoint, sealed, DAY_S, clock())
    clock.forward(days=1, seconds=-1)
    outbox.finish()
    sender = make_sender(now=clock)
    sender.deliver()
    clock.forward(seconds=1)
    outbox.finish()
    sender.deliver()
    before, after = hooks.received
    assert len(before.headers["webhook-signature"].split()) == 2
    assert len(after.headers["webhook-signature"].split()) == 1


def test_a_tenant_without_a_secret_gets_one(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    outbox.finish(2, webhook=hooks.url(), webhook_events=("completed",))
    make_sender().deliver()
    secret = default_secret(outbox)
    for got in hooks.wait_for(2):
        Webhook(secret).verify(got.body, got.headers)


def test_above_20_kb_ids_and_urls_are_left(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    job = {"webhook": hooks.url(), "webhook_events": ("completed",)}
    outbox.finish(output=orjson.dumps({"text": "x" * 15_000}), **job)
    outbox.finish(output=orjson.dumps({"text": "x" * 19_500}), **job)
    outbox.finish(output=orjson.dumps({"text": "x" * 2_000_000}), **job)
    make_sender().deliver()
    small, *thin = (got.event["data"] for got in sorted(hooks.wait_for(3), key=lambda got: -len(got.body)))
    assert len(small["output"]["text"]) == 15_000
    for data in thin:
        assert set(data) == {"id", "object", "status", "batch_id", "custom_id", "retry_of", "urls"}
        assert data["urls"]["get"] == f"http://headrace.test/v1/jobs/{data['id']}"


def test_a_start_is_the_same_whatever_the_job_answers_later(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    hooks.answers["/hook"] = 500
    queue.submit(webhook=hooks.url(), webhook_events=("started",))
    worker = queue.worker()
    (job,) = queue.claim(worker)
    clock = Clock()
    sender = make_sender(now=clock)
    sender.deliver()
    settle(queue.engine, worker, [succeeded(job, orjson.dumps("x" * 50_000))])
    clock.forward(days=1)
    sender.deliver()
    first, second = hooks.received
    assert first.body == second.body


def test_a_start_is_told_as_it_was(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    outbox.finish(webhook=hooks.url(), webhook_events=("started",))
    make_sender().deliver()
    event = hooks.received[0].event
    assert event["type"] == "job.started"
    assert (event["data"]["status"], event["data"]["output"]) == ("running", None)
    assert event["data"]["started_at"] == event["timestamp"]


def test_an_erased_job_is_told_without_its_data(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    (job,) = outbox.finish(
        input={"text": "secret"}, output=b'"secret"', webhook=hooks.url(), webhook_events=("completed",)
    )
    assert erase.erase(queue.engine, queue.tenant_id, job)
    make_sender().deliver()
    assert b"secret" not in hooks.received[0].body


def test_the_body_is_the_same_at_every_try(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    clock = Clock()
    hooks.answers["/hook"] = 500
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    sender = make_sender(now=clock)
    for _ in range(3):
        sender.deliver()
        clock.forward(days=1)
    assert len(hooks.received) == 3
    assert len({(got.id, got.body) for got in hooks.received}) == 1
    assert len({got.headers["webhook-timestamp"] for got in hooks.received}) == 3


# When it is sent


def test_the_schedule_is_exact(outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]) -> None:
    hooks.answers["/hook"] = 500
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    clock = Clock()
    sender = make_sender(now=clock)
    for number, delay_s in enumerate(DELAYS_S, start=1):
        if delay_s:
            clock.forward(seconds=delay_s - 0.001)
            sender.deliver()
            assert len(hooks.received) == number - 1, "not a millisecond early"
            clock.forward(seconds=0.001)
        sender.deliver()
        assert len(hooks.received) == number
        row = only(outbox)
        if number < len(DELAYS_S):
            assert (row.status, row.due_at) == ("pending", clock() + timedelta(seconds=DELAYS_S[number]))
    assert (row.status, row.error) == ("failed", "http_status")
    assert [one["attempt"] for one in row.attempts] == list(range(1, 9))
    clock.forward(days=30)
    sender.deliver()
    assert len(hooks.received) == 8
    assert len({got.id for got in hooks.received}) == 1


@pytest.mark.parametrize(("jitter", "expected_s"), [(0.0, 5.0), (0.5, 5.5), (0.999, 5.999)])
def test_jitter_only_ever_delays(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender], jitter: float, expected_s: float
) -> None:
    clock = Clock()
    hooks.answers["/hook"] = 503
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    make_sender(now=clock, jitter=lambda: jitter).deliver()
    assert only(outbox).due_at == clock() + timedelta(seconds=expected_s)


@pytest.mark.parametrize(
    ("header", "expected_s"),
    [("3", 5), ("7", 7), ("10", 10), ("86400", 10), ("-1", 5), ("soon", 5), ("9" * 400, 10)],
)
def test_retry_after_is_honoured_within_twice_the_delay(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender], header: str, expected_s: float
) -> None:
    clock = Clock()
    hooks.answers["/hook"] = lambda _: web.Response(status=429, headers={"Retry-After": header})
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    make_sender(now=clock).deliver()
    assert only(outbox).due_at == clock() + timedelta(seconds=expected_s)


def test_retry_after_as_a_time_is_relative_to_the_receivers_clock(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    clock = Clock()
    headers = {"Date": "Tue, 01 Jan 2019 00:00:00 GMT", "Retry-After": "Tue, 01 Jan 2019 00:00:08 GMT"}
    hooks.answers["/hook"] = lambda _: web.Response(status=503, headers=headers)
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    make_sender(now=clock).deliver()
    assert only(outbox).due_at == clock() + timedelta(seconds=8)


def test_a_redirect_is_a_failure_and_not_followed(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    hooks.answers["/hook"] = lambda _: web.Response(status=307, headers={"Location": "/elsewhere"})
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    make_sender().deliver()
    assert [got.path for got in hooks.received] == ["/hook"]
    assert [(one["status_code"], one["error"]) for one in only(outbox).attempts] == [(307, "redirect")]


def test_what_can_not_be_reached_is_classed_and_tried_again(
    outbox: Outbox, make_sender: Callable[..., Sender]
) -> None:
    outbox.finish(webhook="http://127.0.0.1:1/", webhook_events=("completed",))
    make_sender().deliver()
    row = only(outbox)
    assert row.status == "pending"
    assert [(one["status_code"], one["error"]) for one in row.attempts] == [(None, "connection_refused")]


def test_an_address_that_must_not_be_called_is_not_called(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    strict = settings_for(
        outbox.settings.database_url.get_secret_value(), outbox.settings.redis_url.get_secret_value()
    )
    outbox.finish(webhook=hooks.url().replace("http:", "https:"), webhook_events=("completed",))
    make_sender(settings=strict).deliver()
    assert hooks.received == []
    assert [one["error"] for one in only(outbox).attempts] == ["blocked"]


def test_one_try_has_one_deadline(
    outbox: Outbox, settings: Settings, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    hooks.answers["/hook"] = never
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    short = settings.model_copy(update={"sender": settings.sender.model_copy(update={"deadline_s": 0.2})})
    make_sender(settings=short).deliver()
    assert [one["error"] for one in only(outbox).attempts] == ["timeout"]


# Endpoints that fail


def status(outbox: Outbox, endpoint: UUID) -> tuple[str, str | None]:
    row = endpoints.get(outbox.queue.engine, outbox.queue.tenant_id, endpoint)
    assert row is not None
    return row.status, row.disabled_reason


def test_five_days_of_failure_disable_to_the_second(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    hooks.answers["/bad"] = 500
    clock = Clock()
    bad = outbox.endpoint(hooks.url("/bad"), now=clock())
    outbox.endpoint(hooks.url("/good"), "endpoint.disabled")
    sender = make_sender(now=clock)
    outbox.finish()
    sender.deliver()
    first_failure = clock()
    clock.forward(days=5, seconds=-1)
    sender.deliver()
    assert status(outbox, bad) == ("enabled", None)
    outbox.finish()
    clock.forward(seconds=1)
    sender.deliver()
    assert clock() - first_failure == timedelta(days=5)
    assert status(outbox, bad) == ("disabled", "failing")
    sender.deliver()
    (told,) = hooks.at("/good")
    assert told.event["type"] == "endpoint.disabled"
    assert told.event["data"]["id"] == format_id("whk", bad)
    assert told.event["data"]["disabled_reason"] == "failing"
    assert b"whsec_" not in told.body
    assert {row.status for row in outbox.deliveries() if row.endpoint_id == bad} == {"failed"}
    sent = len(hooks.at("/bad"))
    clock.forward(days=1)
    outbox.finish()
    sender.deliver()
    assert len(hooks.at("/bad")) == sent, "a disabled endpoint is not called"


def test_one_success_starts_the_five_days_anew(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    clock = Clock()
    endpoint = outbox.endpoint(hooks.url(), now=clock())
    sender = make_sender(now=clock)

    def send(answer: int) -> None:
        hooks.answers["/hook"] = answer
        outbox.finish()
        sender.deliver()

    send(500)
    clock.forward(days=4)
    send(200)
    row = endpoints.get(queue.engine, queue.tenant_id, endpoint)
    assert row is not None
    assert row.failing_since is None
    clock.forward(days=2)
    send(500)
    assert status(outbox, endpoint) == ("enabled", None)
    row = endpoints.get(queue.engine, queue.tenant_id, endpoint)
    assert row is not None
    assert row.failing_since == clock()


def test_gone_disables_at_once_and_costs_no_more_tries(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    hooks.answers["/hook"] = 410
    endpoint = outbox.endpoint(hooks.url())
    outbox.finish()
    sender = make_sender()
    sender.deliver()
    assert status(outbox, endpoint) == ("disabled", "gone")
    assert (only(outbox).status, only(outbox).error) == ("failed", "gone")


def test_gone_ends_a_delivery_to_a_jobs_own_url(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    hooks.answers["/hook"] = 410
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    make_sender().deliver()
    assert (only(outbox).status, only(outbox).error) == ("failed", "gone")


def test_recovery_sends_what_failed_since_then_and_nothing_else(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    clock = Clock()
    hooks.answers["/hook"] = 500
    endpoint = outbox.endpoint(hooks.url(), now=clock())
    sender = make_sender(now=clock)

    def fail_for_good() -> str:
        (job,) = outbox.finish()
        for _ in range(9):
            sender.deliver()
            clock.forward(days=0.5)
        row = outbox.deliveries()[-1]
        assert row.job_id == job
        assert row.status == "failed"
        return format_id("dlv", row.id)

    too_old, lost = fail_for_good(), fail_for_good()
    endpoints.update(queue.engine, queue.tenant_id, endpoint, status="disabled", now=clock())
    outbox.finish()
    missed = format_id("dlv", outbox.deliveries()[-1].id)
    endpoints.update(queue.engine, queue.tenant_id, endpoint, status="enabled", now=clock())

    since = next(row for row in outbox.deliveries() if format_id("dlv", row.id) == lost).created_at
    hooks.answers["/hook"] = 200
    hooks.received.clear()
    assert delivery_log.recover(queue.engine, queue.tenant_id, endpoint, since, clock()) == 2
    sender.deliver()
    assert {got.id for got in hooks.received} == {lost, missed}
    assert too_old not in {got.id for got in hooks.received}
    assert delivery_log.recover(queue.engine, queue.tenant_id, endpoint, since, clock()) == 0


def test_a_deleted_endpoint_gets_nothing_more(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    endpoint = outbox.endpoint(hooks.url())
    outbox.finish(2)
    queue.execute(
        "UPDATE webhook_queue SET target = 'as if claimed' WHERE ctid = (SELECT min(ctid) FROM webhook_queue)"
    )
    assert endpoints.delete(queue.engine, queue.tenant_id, endpoint)
    assert sorted(row.status for row in outbox.deliveries()) == ["canceled", "pending"]
    make_sender().deliver()
    assert [row.status for row in outbox.deliveries()] == ["canceled", "canceled"]
    assert hooks.received == []


def test_redelivery_sends_the_same_again(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    sender = make_sender()
    sender.deliver()
    assert delivery_log.redeliver(queue.engine, queue.tenant_id, only(outbox).id)
    assert only(outbox).status == "pending"
    sender.deliver()
    assert only(outbox).status == "delivered"
    first, second = hooks.received
    assert (first.id, first.body) == (second.id, second.body)


# Whatever else goes wrong


def test_a_dead_receiver_is_left_alone_and_what_waits_loses_no_try(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    outbox.endpoint("http://127.0.0.1:1/dead")
    outbox.endpoint(hooks.url())
    outbox.finish(40)
    make_sender(clock=lambda: 0.0).deliver()
    dead = [row for row in outbox.deliveries() if row.url.endswith("/dead")]
    tried = [row for row in dead if row.attempts]
    assert 5 <= len(tried) <= 8, "five failures in a row break the circuit"
    assert {row.status for row in dead} == {"pending"}
    assert len(hooks.received) == 40


def test_a_key_that_is_missing_is_our_error_and_shows_no_secret(
    outbox: Outbox, queue: Queue, make_sender: Callable[..., Sender], capsys: pytest.CaptureFixture[str]
) -> None:
    outbox.endpoint("http://127.0.0.1:1/")
    queue.execute("UPDATE webhook_endpoints SET secret = '1.lost.' || split_part(secret, '.', 3)")
    outbox.finish()
    make_sender().deliver()
    assert [one["error"] for one in only(outbox).attempts] == ["internal_error"]
    assert only(outbox).status == "pending"
    assert "whsec_" not in capsys.readouterr().out


def test_our_own_errors_are_not_the_endpoints(
    outbox: Outbox, queue: Queue, make_sender: Callable[..., Sender]
) -> None:
    endpoint = outbox.endpoint("http://127.0.0.1:1/")
    queue.execute("UPDATE webhook_endpoints SET secret = '1.lost.' || split_part(secret, '.', 3)")
    outbox.finish()
    make_sender().deliver()
    row = endpoints.get(queue.engine, queue.tenant_id, endpoint)
    assert row is not None
    assert row.failing_since is None


def test_what_could_not_be_written_is_sent_again(
    outbox: Outbox,
    queue: Queue,
    hooks: Receiver,
    make_sender: Callable[..., Sender],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The sender gives up its name, and with it the leases that nobody would take from a live one."""
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    sender = make_sender()
    before = sender.identity.id
    with monkeypatch.context() as patched:
        patched.setattr(deliveries, "settle", lambda *_: 1 / 0)
        sender.deliver()
    assert sender.identity.id != before
    sender.heartbeat()
    Rescue(queue.engine, Notifier(outbox.settings.redis_url), 30.0, 3).run_once()
    sender.deliver()
    first, second = hooks.received
    assert first.id == second.id
    assert only(outbox).status == "delivered"


def test_more_targets_than_one_claim_looks_at(
    outbox: Outbox,
    hooks: Receiver,
    make_sender: Callable[..., Sender],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deliveries, "HOPS", 2)
    for number in range(7):
        outbox.endpoint(hooks.url(f"/{number}"))
    outbox.finish(3)
    report = make_sender().deliver()
    assert (report.delivered, report.ended) == (21, "empty")


def test_a_job_past_retention_ends_its_delivery(
    outbox: Outbox, queue: Queue, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    queue.execute("DELETE FROM jobs")
    make_sender().deliver()
    assert (only(outbox).status, only(outbox).error) == ("failed", "job_gone")


def test_leaving_lets_what_is_under_way_end(
    outbox: Outbox, settings: Settings, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    """Of two deliveries under way one answers before the deadline; the other is given back."""
    let_go = threading.Event()

    async def later(_: Received) -> web.Response:
        await asyncio.to_thread(let_go.wait, 10)
        return web.Response()

    hooks.answers |= {"/later": later, "/never": never}
    for path in ("/later", "/never"):
        outbox.finish(webhook=hooks.url(path), webhook_events=("completed",))
    patient = settings.model_copy(update={"sender": settings.sender.model_copy(update={"deadline_s": 1.0})})
    flag = DrainFlag()
    sender = make_sender(settings=patient, flag=flag)
    slice_ = threading.Thread(target=sender.deliver)
    slice_.start()
    hooks.wait_for(2)
    flag.enter(DrainCause.SIGTERM)
    let_go.set()
    slice_.join(10)
    assert not slice_.is_alive()
    ended = {row.url.rpartition("/")[2]: row for row in outbox.deliveries()}
    assert ended["later"].status == "delivered"
    assert ended["never"].status == "pending"


def test_a_draining_sender_claims_nothing_and_leaves_the_bell(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    flag = DrainFlag()
    flag.enter(DrainCause.SIGTERM)
    outbox.finish(webhook=hooks.url(), webhook_events=("completed",))
    sender = make_sender(flag=flag)
    assert sender.deliver().ended == "draining"
    assert hooks.received == []
    assert sender.ringer.waiting(DeliveryBell.queue) == 1


def test_while_receivers_hang_postgres_is_hardly_asked(
    outbox: Outbox,
    settings: Settings,
    hooks: Receiver,
    make_sender: Callable[..., Sender],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    claims: list[int] = []
    claim = deliveries.claim

    def counted(*arguments: Any, **options: Any) -> deliveries.Claimed:
        claimed = claim(*arguments, **options)
        claims.append(len(claimed.deliveries))
        return claimed

    monkeypatch.setattr(deliveries, "claim", counted)
    hooks.answers["/hook"] = never
    outbox.finish(20, webhook=hooks.url(), webhook_events=("completed",))
    changes = {
        "sender": settings.sender.model_copy(update={"deadline_s": 3.0}),
        "worker": settings.worker.model_copy(update={"slice_s": 0.9}),
    }
    assert make_sender(settings=settings.model_copy(update=changes)).deliver().ended == "slice"
    assert claims[0] == 8
    assert len(claims) <= 4, "every 50 ms would be 18"


def test_what_ends_while_one_hangs_is_written_together(
    outbox: Outbox,
    settings: Settings,
    hooks: Receiver,
    make_sender: Callable[..., Sender],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[int] = []
    settle = deliveries.settle

    def counted(engine: Any, tries: Any, now: Any = None) -> deliveries.Settled:
        written.append(len(tries))
        return settle(engine, tries, now)

    monkeypatch.setattr(deliveries, "settle", counted)
    hooks.answers["/never"] = never
    outbox.finish(1, webhook=hooks.url("/never"), webhook_events=("completed",))
    outbox.finish(8, webhook=hooks.url(), webhook_events=("completed",))
    changes = {"sender": settings.sender.model_copy(update={"deadline_s": 0.5})}
    assert make_sender(settings=settings.model_copy(update=changes)).deliver().delivered == 8
    assert written == [8, 1]


def test_many_are_under_way_at_a_time(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender]
) -> None:
    """Eight that wait for each other: one at a time they would never end."""
    met = asyncio.Event()

    async def meet(_: Received) -> web.Response:
        if len(hooks.received) == 8:
            met.set()
        await asyncio.wait_for(met.wait(), 5)
        return web.Response()

    hooks.answers["/hook"] = meet
    outbox.finish(8, webhook=hooks.url(), webhook_events=("completed",))
    assert make_sender().deliver().delivered == 8


def test_no_secret_and_no_url_in_the_log(
    outbox: Outbox,
    hooks: Receiver,
    make_sender: Callable[..., Sender],
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    hooks.answers["/token-in-the-path"] = 500
    outbox.endpoint(hooks.url("/token-in-the-path"))
    outbox.finish(webhook=hooks.url("/token-in-the-path"), webhook_events=("completed",))
    make_sender().deliver()
    printed = capsys.readouterr().out + caplog.text
    assert "whsec_" not in printed
    assert "token-in-the-path" not in printed


def test_a_bell_of_a_finished_job_is_heard(
    outbox: Outbox, hooks: Receiver, make_sender: Callable[..., Sender], redis_url: str
) -> None:
    """Rung while a slice runs: what came after the claim is found without another task."""
    sender = make_sender()
    hold = threading.Event()

    async def held(_: Received) -> web.Response:
        await asyncio.to_thread(hold.wait, 10)
        return web.Response()

    hooks.answers["/held"] = held
    outbox.finish(webhook=hooks.url("/held"), webhook_events=("completed",))
    slice_ = threading.Thread(target=sender.deliver)
    slice_.start()
    hooks.wait_for(1, "/held")
    outbox.finish(webhook=hooks.url("/late"), webhook_events=("completed",))
    Ringer(SecretStr(redis_url)).ring(DeliveryBell())
    hooks.wait_for(1, "/late")
    hold.set()
    slice_.join(10)
    wait_until(lambda: {row.status for row in outbox.deliveries()} == {"delivered"}, 5, "both")
