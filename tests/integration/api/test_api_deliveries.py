"""Deliveries over HTTP: who is told of a job, what was sent, and sending it again."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

import pytest
from jsonschema_rs import Draft202012Validator

from app.domain.delivery import DeliveryStatus, TryError
from app.domain.states import JobStatus
from tests.integration.api.client import Api, HandSender, HandWorker, uuid_of

HOOK = "https://example.com/hook"
LONG_AGO = "2020-01-01T00:00:00Z"


def get(api: Api, delivery: dict[str, Any] | str) -> dict[str, Any]:
    delivery_id = delivery if isinstance(delivery, str) else delivery["id"]
    answer = api.get(f"/v1/webhooks/deliveries/{delivery_id}")
    assert answer.status_code == 200, answer.text
    shown: dict[str, Any] = answer.json
    return shown


def redeliver(api: Api, delivery: dict[str, Any] | str) -> Any:
    delivery_id = delivery if isinstance(delivery, str) else delivery["id"]
    return api.post(f"/v1/webhooks/deliveries/{delivery_id}/redeliver")


def recover(api: Api, endpoint: dict[str, Any], since: str = LONG_AGO) -> Any:
    return api.post(f"/v1/webhooks/{endpoint['id']}/recover", json={"since": since})


def change(api: Api, endpoint: dict[str, Any], **members: Any) -> None:
    answer = api.request("PATCH", f"/v1/webhooks/{endpoint['id']}", json=members)
    assert answer.status_code == 200, answer.text


def told(api: Api) -> set[tuple[str, str]]:
    """The events of all deliveries, and their URLs."""
    return {(one["event"], one["url"]) for one in api.deliveries()}


# Who is told


def test_a_jobs_own_url_is_told_of_its_end(api: Api, worker: HandWorker) -> None:
    job = api.submit(webhook=HOOK)
    (claimed,) = worker.claim()
    assert api.deliveries() == []
    worker.settle(claimed)
    (listed,) = api.deliveries()
    created_at = listed["created_at"]
    assert listed.pop("id").startswith("dlv_")
    assert listed == {
        "object": "webhook_delivery",
        "event": "job.completed",
        "endpoint_id": None,
        "url": HOOK,
        "job_id": job["id"],
        "batch_id": None,
        "status": "pending",
        "next_attempt_at": created_at,
        "attempts": None,
        "error": None,
        "created_at": created_at,
        "completed_at": None,
    }


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, {"job.completed"}),
        (["completed"], {"job.completed"}),
        (["started"], {"job.started"}),
        (["started", "completed"], {"job.started", "job.completed"}),
    ],
)
def test_a_jobs_own_url_is_told_of_the_events_it_asked_for(
    api: Api, worker: HandWorker, wanted: list[str] | None, expected: set[str]
) -> None:
    api.submit(webhook=HOOK, webhook_events_filter=wanted)
    worker.work()
    assert told(api) == {(event, HOOK) for event in expected}


def test_each_endpoint_is_told_of_the_events_it_subscribes_to(api: Api, worker: HandWorker) -> None:
    subscriptions = {
        "both": ["job.started", "job.completed"],
        "end": ["job.completed"],
        "begin": ["job.started"],
        "other": ["batch.completed", "endpoint.disabled"],
    }
    made = {
        name: api.register(f"https://{name}.example.com/", events=events)
        for name, events in subscriptions.items()
    }
    job = api.submit(webhook=HOOK)
    worker.work()
    found = {(one["event"], one["endpoint_id"], one["job_id"]) for one in api.deliveries()}
    assert found == {
        ("job.completed", None, job["id"]),
        ("job.started", made["both"]["id"], job["id"]),
        ("job.completed", made["both"]["id"], job["id"]),
        ("job.completed", made["end"]["id"], job["id"]),
        ("job.started", made["begin"]["id"], job["id"]),
    }
    assert len({one["id"] for one in api.deliveries()}) == 5


@pytest.mark.parametrize("end", [JobStatus.SUCCEEDED, JobStatus.FAILED])
def test_any_end_is_told_of_once(api: Api, worker: HandWorker, end: JobStatus) -> None:
    api.register()
    api.submit()
    (claimed,) = worker.claim()
    worker.settle(claimed, JobStatus.QUEUED, delay_s=0.0, reason="retry_backoff", output=None)
    assert api.deliveries() == []
    worker.work(end)
    assert [one["event"] for one in api.deliveries()] == ["job.completed"]


def test_a_canceled_jobs_end_is_told_of_and_the_sender_is_rung(api: Api) -> None:
    api.register()
    job = api.submit(webhook=HOOK)
    api.post(f"/v1/jobs/{job['id']}/cancel")
    assert {one["status"] for one in api.deliveries()} == {"pending"}
    assert len(api.deliveries()) == 2
    assert api.bells() == 1
    api.post(f"/v1/jobs/{job['id']}/cancel")
    assert len(api.deliveries()) == 2


def test_another_tenants_endpoints_are_told_nothing(api: Api, worker: HandWorker, stranger: Api) -> None:
    stranger.register(events=["job.started", "job.completed"])
    api.submit(webhook=HOOK)
    worker.work()
    (delivery,) = api.deliveries()
    assert stranger.deliveries() == []
    for query in (f"job_id={delivery['job_id']}", "event=job.completed"):
        assert stranger.deliveries(query) == []


# What became of it


def test_every_try_is_shown(api: Api, worker: HandWorker, sender: HandSender) -> None:
    api.register()
    api.submit()
    worker.work()
    sender.send(DeliveryStatus.PENDING, delay_s=0.0)
    unheard = {"error": TryError.CONNECTION_REFUSED, "status_code": None, "latency_s": 0.001}
    sender.send(DeliveryStatus.PENDING, delay_s=0.0, **unheard)
    sender.send(DeliveryStatus.DELIVERED)
    (listed,) = api.deliveries()
    shown = get(api, listed)
    attempts = shown["attempts"]
    assert listed == shown | {"attempts": None}
    assert [(one["attempt"], one["status_code"], one["latency_s"], one["error"]) for one in attempts] == [
        (1, 500, 0.5, "http_status"),
        (2, None, 0.001, "connection_refused"),
        (3, 200, 0.012, None),
    ]
    assert [one["started_at"] for one in attempts] == sorted(one["started_at"] for one in attempts)
    assert attempts[0]["started_at"].endswith("Z")
    assert (shown["status"], shown["error"], shown["next_attempt_at"]) == ("delivered", None, None)
    assert shown["created_at"] <= shown["completed_at"]


def test_a_delivery_that_is_tried_again_says_when(api: Api, worker: HandWorker, sender: HandSender) -> None:
    api.submit(webhook=HOOK)
    worker.work()
    sender.send(DeliveryStatus.PENDING, delay_s=300.0)
    (shown,) = api.deliveries()
    assert (shown["status"], shown["completed_at"], shown["error"]) == ("pending", None, None)
    left = datetime.fromisoformat(shown["next_attempt_at"]) - datetime.now(UTC)
    assert timedelta(seconds=200) < left <= timedelta(seconds=300)


def test_a_delivery_that_failed_says_why(api: Api, worker: HandWorker, sender: HandSender) -> None:
    api.submit(webhook=HOOK)
    worker.work()
    sender.send(DeliveryStatus.FAILED, error=TryError.TIMEOUT, status_code=None)
    (shown,) = api.deliveries()
    assert (shown["status"], shown["error"], shown["next_attempt_at"]) == ("failed", "timeout", None)
    assert shown["completed_at"]


def one_of_each(api: Api, worker: HandWorker, sender: HandSender) -> dict[str, dict[str, Any]]:
    """A delivery in each status, by status."""
    endpoint = api.register()
    made: dict[str, str] = {}

    def tell(**options: Any) -> str:
        api.submit(**options)
        worker.work()
        newest: str = api.deliveries("limit=1")[0]["id"]
        return newest

    made["delivered"] = tell()
    sender.send(DeliveryStatus.DELIVERED)
    made["failed"] = tell()
    sender.send(DeliveryStatus.FAILED)
    made["canceled"] = tell()
    api.request("DELETE", f"/v1/webhooks/{endpoint['id']}")
    made["sending"] = tell(webhook=HOOK)
    sender.claim()
    made["pending"] = tell(webhook=HOOK)
    return {status: get(api, delivery_id) for status, delivery_id in made.items()}


def test_every_status_can_be_asked_for_and_is_what_the_document_says(
    api: Api, worker: HandWorker, sender: HandSender
) -> None:
    made = one_of_each(api, worker, sender)
    assert set(made) == {status.value for status in DeliveryStatus}
    document = api.http.get("/openapi.json").json
    reference = "#/components/schemas/WebhookDelivery"
    validator = Draft202012Validator(
        {"$ref": reference, "components": document["components"]}, validate_formats=True
    )
    for status, delivery in made.items():
        (listed,) = api.deliveries(f"status={status}")
        assert listed == delivery | {"attempts": None}
        assert delivery["status"] == status
        for shown in (delivery, listed):
            assert [error.message for error in validator.iter_errors(shown)] == []


def test_endpoints_are_what_the_document_says(api: Api) -> None:
    made = api.register()
    document = api.http.get("/openapi.json").json
    for name, shown in [
        ("WebhookEndpointWithSecret", made),
        ("WebhookEndpointWithSecret", api.post(f"/v1/webhooks/{made['id']}/rotate-secret").json),
        ("WebhookEndpoint", api.get(f"/v1/webhooks/{made['id']}").json),
        ("WebhookEndpointList", api.get("/v1/webhooks").json),
        ("WebhookSecret", api.get("/v1/webhooks/default/secret").json),
        ("WebhookRecovery", recover(api, made).json),
        ("WebhookEndpointDeleted", api.request("DELETE", f"/v1/webhooks/{made['id']}").json),
    ]:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        found = Draft202012Validator(schema, validate_formats=True).iter_errors(shown)
        assert [error.message for error in found] == [], name


# Lists


def test_pages_are_newest_first_and_meet_without_gap_or_overlap(api: Api, worker: HandWorker) -> None:
    for _ in range(5):
        api.submit(webhook=HOOK)
        worker.work()
    everything = [one["id"] for one in api.deliveries()]
    assert everything == sorted(everything, reverse=True)
    first = api.get("/v1/webhooks/deliveries?limit=3").json
    assert (first["has_more"], first["first_id"], first["last_id"]) == (True, everything[0], everything[2])
    second = api.get(f"/v1/webhooks/deliveries?limit=3&after={first['last_id']}").json
    assert second["has_more"] is False
    assert [one["id"] for one in first["data"] + second["data"]] == everything


def test_filters_narrow_together(api: Api, worker: HandWorker) -> None:
    one = api.register(events=["job.started", "job.completed"])
    other = api.register()
    first, second = api.submit(), api.submit()
    worker.work()

    def found(**query: str) -> set[tuple[str, str, str]]:
        data = api.deliveries(urlencode(query))
        return {(each["event"], each["endpoint_id"], each["job_id"]) for each in data}

    assert len(found()) == 6
    assert found(endpoint_id=other["id"]) == {
        ("job.completed", other["id"], first["id"]),
        ("job.completed", other["id"], second["id"]),
    }
    assert found(job_id=first["id"], endpoint_id=one["id"]) == {
        ("job.started", one["id"], first["id"]),
        ("job.completed", one["id"], first["id"]),
    }
    assert found(event="job.started", job_id=second["id"]) == {("job.started", one["id"], second["id"])}
    assert len(found(status="pending")) == 6
    assert found(status="failed") == found(event="endpoint.test") == set()
    assert found(endpoint_id="whk_" + "0" * 32) == set()


def test_filters_by_time_leave_the_bounds_out(api: Api, worker: HandWorker) -> None:
    for _ in range(3):
        api.submit(webhook=HOOK)
        worker.work()
    third, second, first = api.deliveries()
    between = urlencode({"created_after": first["created_at"], "created_before": third["created_at"]})
    assert api.deliveries(between) == [second]
    assert len(api.deliveries("created_after=2020-01-01T00:00:00+02:00")) == 3


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=x",
        "limit=1&limit=2",
        "status=done",
        "status=",
        "endpoint_id=x",
        "endpoint_id=job_" + "0" * 32,
        "job_id=x",
        "job_id=whk_" + "0" * 32,
        "event=completed",
        "event=",
        "created_after=yesterday",
        "created_after=2020-01-01T00:00:00",
        "created_before=",
        "model=echo",
        "metadata[k]=v",
        "url=https://example.com/",
    ],
)
def test_a_parameter_that_is_wrong_is_named(reader: Api, query: str) -> None:
    answer = reader.get(f"/v1/webhooks/deliveries?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request"), answer.text
    place = answer.json["errors"][0]
    name = query.partition("=")[0]
    assert (place["pointer"], place["code"]) == (f"/query/{name}", "bad_parameter")
    if name == "event":
        assert "job.completed" in place["message"]
    if name == "endpoint_id":
        assert "whk_" in place["message"]


@pytest.mark.parametrize("cursor", ["x", "", "dlv_", "job_" + "0" * 32, "%00"])
def test_a_cursor_that_is_none(reader: Api, cursor: str) -> None:
    answer = reader.get(f"/v1/webhooks/deliveries?after={cursor}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_cursor")
    assert answer.json["detail"] == "after must be the id of a delivery"


# Redeliver


@pytest.mark.parametrize("end", [DeliveryStatus.DELIVERED, DeliveryStatus.FAILED])
def test_what_has_ended_is_sent_again_under_the_same_id(
    api: Api, worker: HandWorker, sender: HandSender, end: DeliveryStatus
) -> None:
    api.submit(webhook=HOOK)
    worker.work()
    (delivery_id,) = sender.send(end)
    answer = redeliver(api, delivery_id)
    shown = answer.json
    assert answer.status_code == 202
    assert (shown["id"], shown["status"]) == (delivery_id, "pending")
    assert (shown["error"], shown["completed_at"]) == (None, None)
    assert len(shown["attempts"]) == 1
    assert api.bells() == 1
    assert sender.send(DeliveryStatus.DELIVERED) == [delivery_id]
    shown = get(api, delivery_id)
    assert (shown["status"], [one["attempt"] for one in shown["attempts"]]) == ("delivered", [1, 1])


def test_what_waits_for_its_next_try_is_tried_now_with_a_fresh_schedule(
    api: Api, worker: HandWorker, sender: HandSender
) -> None:
    api.submit(webhook=HOOK)
    worker.work()
    (delivery_id,) = sender.send(DeliveryStatus.PENDING, delay_s=36_000.0)
    assert sender.claim() == []
    assert redeliver(api, delivery_id).status_code == 202
    (claimed,) = sender.claim()
    assert claimed.attempt == 0


def test_what_is_being_sent_is_not_sent_twice_at_a_time(
    api: Api, worker: HandWorker, sender: HandSender
) -> None:
    api.submit(webhook=HOOK)
    worker.work()
    (claimed,) = sender.claim()
    (delivery,) = api.deliveries()
    answer = redeliver(api, delivery)
    assert (answer.status_code, answer.json["code"]) == (409, "delivery_in_flight")
    sender.settle(claimed, DeliveryStatus.DELIVERED)
    assert redeliver(api, delivery).status_code == 202


def test_nothing_is_redelivered_to_an_endpoint_that_is_disabled_or_gone(
    api: Api, worker: HandWorker, sender: HandSender
) -> None:
    endpoint = api.register()
    api.submit()
    worker.work()
    (delivery_id,) = sender.send(DeliveryStatus.FAILED)
    change(api, endpoint, status="disabled")
    disabled = redeliver(api, delivery_id)
    assert (disabled.status_code, disabled.json["code"]) == (409, "endpoint_disabled")
    api.request("DELETE", f"/v1/webhooks/{endpoint['id']}")
    gone = redeliver(api, delivery_id)
    assert (gone.status_code, gone.json["code"]) == (409, "endpoint_gone")
    assert get(api, delivery_id)["status"] == "failed"
    assert api.bells() == 0


def test_redelivering_takes_no_options(api: Api, worker: HandWorker) -> None:
    api.submit(webhook=HOOK)
    worker.work()
    path = f"/v1/webhooks/deliveries/{api.deliveries()[0]['id']}/redeliver"
    answer = api.post(path, json={"url": "https://example.org/"})
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, "/url")
    assert api.post(path, json={}).status_code == 202


# Disabled, deleted, recovered


def test_what_happens_while_an_endpoint_is_disabled_can_be_recovered(
    api: Api, worker: HandWorker, sender: HandSender
) -> None:
    endpoint = api.register()
    waiting = api.submit()
    worker.work()
    change(api, endpoint, status="disabled")
    missed = api.submit()
    worker.work()
    for delivery in api.deliveries():
        assert (delivery["status"], delivery["error"]) == ("failed", "endpoint_disabled")
        assert delivery["completed_at"]
        assert get(api, delivery)["attempts"] == []
    assert sender.claim() == []
    change(api, endpoint, status="enabled")
    assert api.bells() == 0
    answer = recover(api, endpoint)
    assert answer.status_code == 202
    assert answer.json == {
        "object": "recovery",
        "endpoint_id": endpoint["id"],
        "since": LONG_AGO,
        "count": 2,
    }
    assert api.bells() == 1
    deliveries = api.deliveries("status=pending")
    assert {one["job_id"] for one in deliveries} == {waiting["id"], missed["id"]}
    assert {one["error"] for one in deliveries} == {None}
    assert sorted(sender.send()) == sorted(one["id"] for one in deliveries)
    assert recover(api, endpoint).json["count"] == 0


def test_only_what_failed_since_then_for_that_endpoint_is_recovered(
    api: Api, worker: HandWorker, sender: HandSender
) -> None:
    endpoint, other = api.register(), api.register()
    ends = [DeliveryStatus.FAILED, DeliveryStatus.FAILED, DeliveryStatus.DELIVERED, DeliveryStatus.FAILED]
    for end in ends:
        api.submit(webhook=HOOK)
        worker.work()
        sender.send(end)
    mine = api.deliveries(f"endpoint_id={endpoint['id']}")[::-1]
    assert recover(api, endpoint, mine[1]["created_at"]).json["count"] == 2
    assert {one["id"] for one in api.deliveries("status=pending")} == {mine[1]["id"], mine[3]["id"]}
    assert len(api.deliveries(f"status=failed&endpoint_id={other['id']}")) == 3


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({}, "required"),
        ({"since": None}, "wrong_type"),
        ({"since": 1_700_000_000}, "wrong_type"),
        ({"since": ""}, "bad_format"),
        ({"since": "yesterday"}, "bad_format"),
        ({"since": "2020-01-01T00:00:00"}, "bad_format"),
        ({"since": "2020-02-30T00:00:00Z"}, "bad_format"),
        ({"since": "9999-12-31T23:59:59Z"}, "out_of_range"),
        ({"since": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}, "out_of_range"),
    ],
)
def test_a_time_that_is_none_or_is_to_come(reader: Api, body: dict[str, Any], code: str) -> None:
    answer = reader.post(f"/v1/webhooks/whk_{'0' * 32}/recover", json=body)
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    (place,) = answer.json["errors"]
    assert (place["pointer"], place["code"]) == ("/since", code)


def test_recovering_takes_nothing_but_a_time(reader: Api) -> None:
    body = {"since": LONG_AGO, "until": LONG_AGO}
    answer = reader.post(f"/v1/webhooks/whk_{'0' * 32}/recover", json=body)
    assert answer.json["errors"][0]["pointer"] == "/until"


def test_a_time_with_an_offset_is_answered_in_utc(api: Api) -> None:
    answer = recover(api, api.register(), "2020-01-01T01:00:00+02:00")
    assert answer.json["since"] == "2019-12-31T23:00:00Z"


def test_what_waits_for_a_deleted_endpoint_is_canceled_and_nothing_else(
    api: Api, worker: HandWorker, sender: HandSender
) -> None:
    endpoint, other = api.register(), api.register()
    api.submit()
    worker.work()
    sender.send(DeliveryStatus.PENDING, delay_s=300.0)
    api.submit(webhook=HOOK)
    worker.work()
    api.request("DELETE", f"/v1/webhooks/{endpoint['id']}")
    canceled = api.deliveries("status=canceled")
    assert [one["endpoint_id"] for one in canceled] == [endpoint["id"]] * 2
    assert {one["error"] for one in canceled} == {None}
    assert all(one["completed_at"] for one in canceled)
    pending = api.deliveries("status=pending")
    assert sorted(one["endpoint_id"] or "" for one in pending) == sorted(["", other["id"], other["id"]])


def test_what_waits_follows_its_endpoint_to_a_new_url(
    api: Api, worker: HandWorker, sender: HandSender
) -> None:
    endpoint = api.register()
    api.submit()
    worker.work()
    change(api, endpoint, url="https://example.org/new")
    (claimed,) = sender.claim()
    assert claimed.url == "https://example.org/new"
    (delivery,) = api.deliveries()
    assert delivery["url"] == endpoint["url"]
    assert uuid_of(delivery) == claimed.id
