"""`client.webhooks`: what is sent, what is made of the answer, and what is never sent twice."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from client_testkit import JOB_ID, Reply, page, problem
from headrace import APIConnectionError, ConflictError, ServerError, WebhookSecret
from webhook_testkit import NOON, attempt, delivery, endpoint

WHK = "whk_" + "0" * 32
DLV = "dlv_" + "0" * 32


def test_create_sends_what_was_given_and_nothing_else(client, script):
    made = endpoint(id=WHK, secret="whsec_abc", events=["job.started"], description="d")
    script.then(Reply(201, made), Reply(201, made))
    client.webhooks.create("https://example.com/hook")
    assert script.requests[0].json == {"url": "https://example.com/hook"}
    found = client.webhooks.create("https://example.com/hook", events=("job.started",), description="d")
    sent = script.requests[1]
    assert (sent.method, sent.path) == ("POST", "/v1/webhooks")
    assert sent.json == {"url": "https://example.com/hook", "events": ["job.started"], "description": "d"}
    assert (found.id, found.url, found.events) == (WHK, "https://example.com/hook", ["job.started"])
    assert (found.secret, found.description, found.status) == ("whsec_abc", "d", "enabled")
    assert found.created_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert (found.disabled_reason, found.failing_since, found.previous_secret_expires_at) == (None,) * 3
    assert "whsec" not in repr(found)


def test_one_event_need_not_be_in_a_list(client, script):
    script.then(Reply(201, endpoint()))
    client.webhooks.create("https://example.com/hook", events="job.completed")
    assert script.requests[0].json["events"] == ["job.completed"]


def test_the_rest_of_an_endpoints_life(client, script):
    rotated = endpoint(id=WHK, secret="whsec_new", previous_secret_expires_at=NOON)
    script.then(
        Reply(body=endpoint(id=WHK, status="disabled", disabled_reason="failing", failing_since=NOON)),
        Reply(body=endpoint(id=WHK)),
        Reply(body=rotated),
        Reply(body=rotated),
        Reply(202, {"object": "recovery", "endpoint_id": WHK, "since": NOON, "count": 7}),
        Reply(body={"id": WHK, "object": "webhook_endpoint", "deleted": True}),
    )
    found = client.webhooks.get(WHK)
    assert (found.secret, found.disabled_reason) == (None, "failing")
    assert found.failing_since == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert client.webhooks.update(WHK, status="enabled", description="").status == "enabled"
    assert client.webhooks.rotate_secret(WHK).secret == "whsec_new"
    rotated_at_once = client.webhooks.rotate_secret(WHK, grace_period_seconds=0)
    assert rotated_at_once.previous_secret_expires_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    since = datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))
    assert client.webhooks.recover(WHK, since) == 7
    assert client.webhooks.delete(WHK) is None
    sent = [(r.method, r.path.removeprefix(f"/v1/webhooks/{WHK}")) for r in script.requests]
    assert sent == [
        ("GET", ""),
        ("PATCH", ""),
        ("POST", "/rotate-secret"),
        ("POST", "/rotate-secret"),
        ("POST", "/recover"),
        ("DELETE", ""),
    ]
    bodies = [request.json for request in script.requests[1:5]]
    assert bodies == [
        {"status": "enabled", "description": ""},
        {},
        {"grace_period_seconds": 0},
        {"since": "2026-01-31T12:00:00Z"},
    ]


def test_the_default_secret(client, script):
    shown = {"object": "webhook_secret", "secret": "whsec_abc", "previous_secret_expires_at": None}
    script.then(Reply(body=shown), Reply(body=shown | {"previous_secret_expires_at": NOON}))
    assert client.webhooks.default_secret() == WebhookSecret("whsec_abc")
    rotated = client.webhooks.rotate_default_secret(grace_period_seconds=60)
    assert rotated.previous_secret_expires_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert "whsec" not in repr(rotated)
    first, second = script.requests
    assert (first.method, first.path) == ("GET", "/v1/webhooks/default/secret")
    assert (second.method, second.path) == ("POST", "/v1/webhooks/default/rotate-secret")
    assert second.json == {"grace_period_seconds": 60}


def test_lists_come_page_by_page(client, script):
    first = page([endpoint(id="whk_3"), endpoint(id="whk_2")]) | {"has_more": True}
    script.then(Reply(body=first), Reply(body=page([endpoint(id="whk_1")])))
    found = client.webhooks.list()
    assert script.requests == []
    assert [one.id for one in found] == ["whk_3", "whk_2", "whk_1"]
    assert [request.query.get("after") for request in script.requests] == [None, "whk_2"]


def test_deliveries_send_their_filters(client, script):
    script.then(Reply(body=page([delivery("failed", id=DLV, attempts=None, error="timeout", job_id=JOB_ID)])))
    (found,) = client.webhooks.deliveries.list(
        status="failed",
        endpoint_id=WHK,
        job_id=JOB_ID,
        event="job.completed",
        created_after=datetime(2026, 1, 1, tzinfo=UTC),
        created_before="2026-02-01T00:00:00Z",
        after="dlv_9",
        limit=7,
    )
    (sent,) = script.requests
    assert (sent.method, sent.path) == ("GET", "/v1/webhooks/deliveries")
    assert sent.query == {
        "status": "failed",
        "endpoint_id": WHK,
        "job_id": JOB_ID,
        "event": "job.completed",
        "created_after": "2026-01-01T00:00:00Z",
        "created_before": "2026-02-01T00:00:00Z",
        "after": "dlv_9",
        "limit": "7",
    }
    assert (found.id, found.job_id, found.error, found.attempts) == (DLV, JOB_ID, "timeout", [])
    assert found.done
    assert found.completed_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert repr(found) == f"WebhookDelivery('{DLV}', 'failed')"


def test_one_delivery_and_again(client, script):
    script.then(Reply(body=delivery("delivered", attempt(), id=DLV)), Reply(202, delivery(id=DLV)))
    found = client.webhooks.deliveries.get(DLV)
    assert (found.attempts[0]["status_code"], found.endpoint_id) == (200, None)
    again = client.webhooks.deliveries.redeliver(DLV)
    assert again == found
    assert not again.done
    assert again.next_attempt_at == datetime(2026, 1, 31, 12, tzinfo=UTC)
    assert [(r.method, r.path) for r in script.requests] == [
        ("GET", f"/v1/webhooks/deliveries/{DLV}"),
        ("POST", f"/v1/webhooks/deliveries/{DLV}/redeliver"),
    ]


def test_test_returns_at_once_unless_told_to_wait(client, script, clock):
    script.then(Reply(202, delivery(id=DLV)))
    assert not client.webhooks.test(WHK).tried
    assert (script.requests[0].path, clock.sleeps) == (f"/v1/webhooks/{WHK}/test", [])


def test_test_waits_for_the_first_try_and_not_for_the_end(client, script, clock):
    script.then(
        Reply(202, delivery(id=DLV)),
        Reply(body=delivery("sending", id=DLV)),
        # Some servers may show a try that is under way.
        Reply(body=delivery("sending", attempt(None), id=DLV)),
        Reply(body=delivery("pending", attempt(500, "http_status"), id=DLV)),
    )
    found = client.webhooks.test(WHK, wait=30)
    assert found.tried
    assert not found.done
    assert found.attempts[0]["error"] == "http_status"
    assert clock.sleeps == [0.1, 0.2, 0.4]


def test_test_does_not_wait_longer_than_told(client, script, clock):
    script.then(Reply(202, delivery(id=DLV)), *[Reply(body=delivery(id=DLV))] * 6)
    assert not client.webhooks.test(WHK, wait=2.0).tried
    assert sum(clock.sleeps) == 2.0


MAKERS = [
    lambda webhooks: webhooks.create("https://example.com/hook"),
    lambda webhooks: webhooks.rotate_secret(WHK),
    lambda webhooks: webhooks.rotate_default_secret(),
    lambda webhooks: webhooks.test(WHK),
    lambda webhooks: webhooks.recover(WHK, NOON),
    lambda webhooks: webhooks.deliveries.redeliver(DLV),
]


@pytest.mark.parametrize("make", MAKERS)
def test_what_may_have_happened_is_not_done_twice(client, script, make):
    script.then(Reply(drop=True), problem(502, "proxy", retryable=True))
    with pytest.raises(APIConnectionError):
        make(client.webhooks)
    with pytest.raises(ServerError):
        make(client.webhooks)
    assert len(script.requests) == 2


@pytest.mark.parametrize("make", MAKERS)
def test_what_was_refused_is_sent_again(client, script, make):
    answer = endpoint(secret="whsec_x", count=1)
    script.then(problem(429, "rate_limited", retryable=True), Reply(202, answer))
    make(client.webhooks)
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda webhooks: webhooks.get(WHK),
        lambda webhooks: webhooks.update(WHK, status="disabled"),
        lambda webhooks: webhooks.deliveries.get(DLV),
        lambda webhooks: webhooks.default_secret(),
    ],
)
def test_what_is_safe_to_repeat_is_repeated(client, script, ask):
    script.then(Reply(drop=True), Reply(body=endpoint(secret="whsec_x")))
    ask(client.webhooks)
    assert len(script.requests) == 2


def test_a_conflict_has_its_code(client, script):
    script.then(problem(409, "endpoint_disabled"))
    with pytest.raises(ConflictError) as caught:
        client.webhooks.test(WHK)
    assert caught.value.code == "endpoint_disabled"


@pytest.mark.parametrize("stray", ["", "..", "deliveries", "default", "job_1"])
def test_a_stray_word_never_becomes_another_path(client, script, stray):
    for act in (client.webhooks.get, client.webhooks.delete, client.webhooks.test):
        with pytest.raises(ValueError, match="whk_"):
            act(stray)
    with pytest.raises(ValueError, match="dlv_"):
        client.webhooks.deliveries.get(stray)
    assert script.requests == []


def test_an_id_is_quoted(client, script):
    script.then(Reply(body=endpoint()), Reply(body=delivery()))
    client.webhooks.get("whk_1/../default?x")
    client.webhooks.deliveries.get("dlv_1/redeliver")
    assert script.requests[0].path == "/v1/webhooks/whk_1%2F..%2Fdefault%3Fx"
    assert script.requests[1].path == "/v1/webhooks/deliveries/dlv_1%2Fredeliver"
