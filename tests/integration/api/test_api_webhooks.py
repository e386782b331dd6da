"""/v1/webhooks: endpoints, and the secrets that sign what they are sent."""

import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from app.db import endpoints
from app.db.engine import transaction
from app.domain.delivery import SUBSCRIBABLE
from app.domain.ids import new_uuid
from app.domain.scopes import SCOPES
from app.domain.sealing import CannotOpen, Keyring
from app.factory import create_app
from app.intake.webhooks import MOST_ENDPOINTS
from tests.integration.api.client import Api, HandWorker, uuid_of
from tests.support.waiting import wait_until

NOBODY = "whk_" + "0" * 32
NOTHING = "dlv_" + "0" * 32


def stored(api: Api, endpoint: dict[str, Any]) -> Any:
    (row,) = api.queue.execute("SELECT * FROM webhook_endpoints WHERE id = :id", id=uuid_of(endpoint))
    return row


def shown(endpoint: dict[str, Any]) -> dict[str, Any]:
    """The endpoint as everybody may see it."""
    return {name: value for name, value in endpoint.items() if name != "secret"}


def fill(api: Api, count: int) -> None:
    for _ in range(count):
        endpoints.insert(api.queue.engine, new_row(api), MOST_ENDPOINTS)


def new_row(api: Api) -> endpoints.NewEndpoint:
    url, events = "https://example.com/", ["job.completed"]
    return endpoints.NewEndpoint(new_uuid(), api.queue.tenant_id, url, events, "", "sealed")


# Creating, reading


def test_the_answer_is_201_with_location_the_endpoint_and_its_secret(api: Api) -> None:
    answer = api.post("/v1/webhooks", json={"url": "https://example.com/hook"})
    endpoint = answer.json
    assert answer.status_code == 201
    assert answer.headers["Location"] == f"http://localhost/v1/webhooks/{endpoint['id']}"
    assert endpoint.pop("secret").startswith("whsec_")
    assert endpoint.pop("id").startswith("whk_")
    assert endpoint.pop("created_at") == endpoint.pop("updated_at")
    assert endpoint == {
        "object": "webhook_endpoint",
        "url": "https://example.com/hook",
        "events": ["job.completed"],
        "description": "",
        "status": "enabled",
        "disabled_reason": None,
        "failing_since": None,
        "previous_secret_expires_at": None,
    }


def test_every_option_is_kept(api: Api) -> None:
    events = [event.value for event in SUBSCRIBABLE]
    made = api.register(events=events, description="é" * 256)
    assert (made["events"], made["description"]) == (events, "é" * 256)
    assert api.get(f"/v1/webhooks/{made['id']}").json == shown(made)


def test_null_members_count_as_absent(api: Api) -> None:
    made = api.register(events=None, description=None)
    assert (made["events"], made["description"]) == (["job.completed"], "")


def test_pages_are_newest_first_and_show_no_secret(api: Api) -> None:
    made = [shown(api.register()) for _ in range(5)]
    first = api.get("/v1/webhooks?limit=3").json
    assert (first["object"], first["has_more"]) == ("list", True)
    assert (first["first_id"], first["last_id"]) == (made[4]["id"], made[2]["id"])
    second = api.get(f"/v1/webhooks?limit=3&after={first['last_id']}").json
    assert second["has_more"] is False
    assert first["data"] + second["data"] == made[::-1]


def test_only_so_many_endpoints_may_be_registered(api: Api, stranger: Api) -> None:
    fill(api, MOST_ENDPOINTS - 1)
    last = api.register()
    refused = api.post("/v1/webhooks", json={"url": "https://example.com/"})
    assert (refused.status_code, refused.json["code"]) == (409, "too_many_endpoints")
    assert str(MOST_ENDPOINTS) in refused.json["detail"]
    assert stranger.register()
    assert api.request("DELETE", f"/v1/webhooks/{last['id']}").status_code == 200
    assert api.register()


def test_the_limit_holds_when_many_register_at_the_same_moment(api: Api) -> None:
    """All are made to wait at the same lock: none may go by what it saw before it waited."""
    engine, made = api.queue.engine, []

    def insert() -> None:
        made.append(endpoints.insert(engine, new_row(api), 1))

    threads = [threading.Thread(target=insert) for _ in range(3)]
    with transaction(engine) as connection:
        connection.exec_driver_sql("SELECT FROM tenants FOR UPDATE")
        for thread in threads:
            thread.start()
        blocked = "SELECT count(*) = 3 FROM pg_locks WHERE NOT granted"
        wait_until(lambda: api.queue.execute(blocked)[0][0], 10, "all to wait")
    for thread in threads:
        thread.join()
    assert len([row for row in made if row is not None]) == 1


# Changing


@pytest.mark.parametrize(
    "change",
    [
        {"url": "https://example.org/other"},
        {"events": ["job.started", "endpoint.disabled"]},
        {"description": "new"},
        {"description": ""},
        {"url": "https://example.org/", "events": ["job.started"], "description": "x", "status": "enabled"},
        {"description": "new", "url": None, "events": None, "status": None},
    ],
)
def test_what_is_given_is_changed_and_nothing_else(api: Api, change: dict[str, Any]) -> None:
    made = shown(api.register(description="old"))
    answer = api.request("PATCH", f"/v1/webhooks/{made['id']}", json=change)
    assert answer.status_code == 200, answer.text
    given = {name: value for name, value in change.items() if value is not None}
    assert answer.json == made | given | {"updated_at": answer.json["updated_at"]}
    assert answer.json["updated_at"] > made["updated_at"]
    assert api.get(f"/v1/webhooks/{made['id']}").json == answer.json


def test_an_endpoint_is_disabled_and_enabled_with_a_new_start(api: Api) -> None:
    made = api.register()
    path = f"/v1/webhooks/{made['id']}"
    disabled = api.request("PATCH", path, json={"status": "disabled"}).json
    assert (disabled["status"], disabled["disabled_reason"]) == ("disabled", "by_request")
    api.queue.execute("UPDATE webhook_endpoints SET disabled_reason = 'failing', failing_since = now()")
    failing = api.get(path).json
    assert (failing["disabled_reason"], failing["failing_since"][-1]) == ("failing", "Z")
    assert api.request("PATCH", path, json={"status": "disabled"}).json["disabled_reason"] == "failing"
    enabled = api.request("PATCH", path, json={"status": "enabled"}).json
    assert (enabled["status"], enabled["disabled_reason"], enabled["failing_since"]) == (
        "enabled",
        None,
        None,
    )


def test_a_deleted_endpoint_is_gone(api: Api) -> None:
    made, other = api.register(), api.register()
    path = f"/v1/webhooks/{made['id']}"
    answer = api.request("DELETE", path)
    assert (answer.status_code, answer.json) == (
        200,
        {"id": made["id"], "object": "webhook_endpoint", "deleted": True},
    )
    for method in ("GET", "DELETE"):
        assert api.request(method, path).json["code"] == "endpoint_not_found"
    assert [one["id"] for one in api.get("/v1/webhooks").json["data"]] == [other["id"]]


# Wrong requests


def refused(answer: Any, pointer: str, code: str) -> dict[str, Any]:
    problem: dict[str, Any] = orjson.loads(answer.data)
    assert (answer.status_code, problem["code"]) == (422, "invalid_request"), problem
    (place,) = problem["errors"]
    assert (place["pointer"], place["code"]) == (pointer, code), problem
    assert place["message"]
    assert pointer in problem["detail"]
    return place


WRONG = [
    ({"url": 5}, "/url", "wrong_type"),
    ({"url": ""}, "/url", "invalid_url"),
    ({"url": "example.com"}, "/url", "invalid_url"),
    ({"url": "http://example.com/"}, "/url", "invalid_url"),
    ({"url": "https://user:secret@example.com/"}, "/url", "invalid_url"),
    ({"url": "https://example.com/#x"}, "/url", "invalid_url"),
    ({"url": "https://example.com/" + "x" * 2048}, "/url", "too_long"),
    ({"url": "https://127.0.0.1/"}, "/url", "blocked_url"),
    ({"url": "https://[::1]/"}, "/url", "blocked_url"),
    ({"url": "https://10.0.0.1:8443/"}, "/url", "blocked_url"),
    ({"url": "https://169.254.169.254/"}, "/url", "blocked_url"),
    ({"url": "https://0x7f000001/"}, "/url", "blocked_url"),
    ({"url": "https://localhost/"}, "/url", "blocked_url"),
    ({"url": "https://printer.local/"}, "/url", "blocked_url"),
    ({"events": "job.completed"}, "/events", "wrong_type"),
    ({"events": []}, "/events", "too_short"),
    ({"events": ["job.completed", "job.completed"]}, "/events", "duplicate"),
    ({"events": ["job.completed"] * 8}, "/events", "too_long"),
    ({"events": ["job.completed", "job.failed"]}, "/events/1", "not_allowed"),
    ({"events": ["endpoint.test"]}, "/events/0", "not_allowed"),
    ({"events": [None]}, "/events/0", "not_allowed"),
    ({"description": 1}, "/description", "wrong_type"),
    ({"description": "x" * 257}, "/description", "too_long"),
    ({"description": "a\0b"}, "/description", "invalid_text"),
    ({"secret": "whsec_x"}, "/secret", "unknown_field"),
    ({"metadata": {}}, "/metadata", "unknown_field"),
]


@pytest.mark.parametrize(("member", "pointer", "code"), [*WRONG, ({"url": None}, "/url", "wrong_type")])
def test_a_member_that_is_wrong_is_named(
    reader: Api, member: dict[str, Any], pointer: str, code: str
) -> None:
    refused(reader.post("/v1/webhooks", json={"url": "https://example.com/"} | member), pointer, code)
    assert reader.get("/v1/webhooks").json["data"] == []


@pytest.mark.parametrize(
    ("member", "pointer", "code"),
    [*WRONG, ({"status": "paused"}, "/status", "not_allowed"), ({"status": True}, "/status", "not_allowed")],
)
def test_a_change_that_is_wrong_is_named(
    reader: Api, member: dict[str, Any], pointer: str, code: str
) -> None:
    refused(reader.request("PATCH", f"/v1/webhooks/{NOBODY}", json=member), pointer, code)


def test_the_url_is_required_and_the_status_is_not_chosen(reader: Api) -> None:
    refused(reader.post("/v1/webhooks", json={}), "/url", "required")
    body = {"url": "https://example.com/", "status": "disabled"}
    refused(reader.post("/v1/webhooks", json=body), "/status", "unknown_field")


@pytest.mark.parametrize("body", [{}, {"url": None}, dict.fromkeys(["url", "events", "description"])])
def test_a_change_of_nothing_says_what_can_be_changed(reader: Api, body: dict[str, Any]) -> None:
    place = refused(reader.request("PATCH", f"/v1/webhooks/{NOBODY}", json=body), "", "required")
    assert "url, events, description, status" in place["message"]


def test_every_wrong_member_is_named_at_once(reader: Api) -> None:
    body = {"url": "https://10.0.0.1/", "events": ["x"], "description": 1, "extra": 1}
    problem = reader.post("/v1/webhooks", json=body).json
    found = {error["pointer"] for error in problem["errors"]}
    assert found == {"/url", "/events/0", "/description", "/extra"}


def test_messages_do_not_repeat_values(reader: Api) -> None:
    diary = "mydiary"
    bodies: list[dict[str, Any]] = [
        {"url": f"https://{diary}:x@example.com/", "events": [diary], "description": [diary]},
        {"url": f"https://{diary}.internal/"},
    ]
    for body in bodies:
        assert diary not in reader.post("/v1/webhooks", json=body).text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [(b"", 400, "invalid_json"), (b"{", 400, "invalid_json"), (b"[]", 422, "invalid_request")],
)
def test_a_body_that_is_none(reader: Api, body: bytes, status: int, code: str) -> None:
    for method, path in [
        ("POST", "/v1/webhooks"),
        ("PATCH", f"/v1/webhooks/{NOBODY}"),
        ("POST", f"/v1/webhooks/{NOBODY}/recover"),
    ]:
        answer = reader.request(method, path, data=body, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.json["code"]) == (status, code)


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "status=enabled", "limit=1&limit=2"])
def test_a_parameter_that_is_wrong_is_named(reader: Api, query: str) -> None:
    answer = reader.get(f"/v1/webhooks?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request")
    assert answer.json["errors"][0]["pointer"].startswith("/query/")


@pytest.mark.parametrize("cursor", ["x", "", NOTHING])
def test_a_cursor_that_is_none(reader: Api, cursor: str) -> None:
    answer = reader.get(f"/v1/webhooks?after={cursor}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_cursor")
    assert "webhook endpoint" in answer.json["detail"]


def test_http_and_loopback_are_for_development(api: Api) -> None:
    lax = api.settings.model_copy(update={"allow_local_webhooks": True})
    other = Api(create_app(lax), api.queue, lax, api.key)
    made = other.register("http://127.0.0.1:9/hook")
    change = {"url": "http://localhost:9/"}
    assert other.request("PATCH", f"/v1/webhooks/{made['id']}", json=change).status_code == 200
    refused(other.post("/v1/webhooks", json={"url": "http://10.0.0.1/"}), "/url", "blocked_url")


# Secrets


def test_a_secret_is_stored_sealed_and_for_its_endpoint_only(api: Api) -> None:
    made, other = api.register(), api.register()
    keyring = Keyring.of(api.settings)
    row = stored(api, made)
    assert made["secret"] not in str(row)
    assert keyring.open(row.secret, endpoints.endpoint_owner(row.id)) == made["secret"]
    with pytest.raises(CannotOpen):
        keyring.open(row.secret, endpoints.endpoint_owner(uuid_of(other)))


def test_a_rotation_lets_the_old_secret_sign_for_a_day(api: Api) -> None:
    made = api.register()
    answer = api.post(f"/v1/webhooks/{made['id']}/rotate-secret")
    rotated = answer.json
    assert answer.status_code == 200
    assert rotated["secret"] != made["secret"]
    assert rotated["secret"].startswith("whsec_")
    expires = datetime.fromisoformat(rotated["previous_secret_expires_at"])
    assert expires - datetime.fromisoformat(rotated["updated_at"]) == timedelta(days=1)
    assert api.get(f"/v1/webhooks/{made['id']}").json == shown(rotated)
    keyring, row = Keyring.of(api.settings), stored(api, made)
    owner = endpoints.endpoint_owner(row.id)
    assert keyring.open(row.secret, owner) == rotated["secret"]
    assert keyring.open(row.previous_secret, owner) == made["secret"]


@pytest.mark.parametrize(
    ("body", "seconds"),
    [({}, 86_400), ({"grace_period_seconds": None}, 86_400), ({"grace_period_seconds": 60}, 60)],
)
def test_the_grace_period_may_be_chosen(api: Api, body: dict[str, Any], seconds: int) -> None:
    path = f"/v1/webhooks/{api.register()['id']}/rotate-secret"
    rotated = api.post(path, json=body).json
    expires = datetime.fromisoformat(rotated["previous_secret_expires_at"])
    assert (expires - datetime.fromisoformat(rotated["updated_at"])).total_seconds() == seconds


def test_without_grace_the_old_secret_is_dead_at_once(api: Api) -> None:
    made = api.register()
    path = f"/v1/webhooks/{made['id']}/rotate-secret"
    api.post(path)
    assert api.post(path, json={"grace_period_seconds": 0}).json["previous_secret_expires_at"] is None
    assert stored(api, made).previous_secret is None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (-1, "out_of_range"),
        (604_801, "out_of_range"),
        ("60", "wrong_type"),
        (1.5, "wrong_type"),
        (True, "wrong_type"),
    ],
)
def test_a_grace_period_that_is_none(reader: Api, value: Any, code: str) -> None:
    for path in (f"/v1/webhooks/{NOBODY}/rotate-secret", "/v1/webhooks/default/rotate-secret"):
        refused(reader.post(path, json={"grace_period_seconds": value}), "/grace_period_seconds", code)


def test_the_default_secret_is_made_at_its_first_use_and_stays(api: Api, stranger: Api) -> None:
    first = api.get("/v1/webhooks/default/secret")
    assert first.status_code == 200
    secret = first.json["secret"]
    assert first.json == {"object": "webhook_secret", "secret": secret, "previous_secret_expires_at": None}
    assert secret.startswith("whsec_")
    assert api.get("/v1/webhooks/default/secret").json == first.json
    assert stranger.get("/v1/webhooks/default/secret").json["secret"] != secret
    assert "whsec_" not in str(api.queue.execute("SELECT * FROM tenants"))


def test_the_default_secret_is_rotated_like_any_other(api: Api) -> None:
    old = api.get("/v1/webhooks/default/secret").json["secret"]
    rotated = api.post("/v1/webhooks/default/rotate-secret", json={"grace_period_seconds": 60}).json
    assert rotated["object"] == "webhook_secret"
    assert rotated["secret"] != old
    left = datetime.fromisoformat(rotated["previous_secret_expires_at"]) - datetime.now(UTC)
    assert timedelta(seconds=40) < left <= timedelta(seconds=60)
    assert api.get("/v1/webhooks/default/secret").json == rotated
    (row,) = api.queue.execute("SELECT * FROM tenants")
    keyring, owner = Keyring.of(api.settings), endpoints.tenant_owner(row.id)
    assert keyring.open(row.webhook_secret, owner) == rotated["secret"]
    assert keyring.open(row.previous_webhook_secret, owner) == old
    at_once = api.post("/v1/webhooks/default/rotate-secret", json={"grace_period_seconds": 0}).json
    assert at_once["previous_secret_expires_at"] is None


def test_a_rotation_before_the_first_use_has_no_old_secret(api: Api) -> None:
    assert api.post("/v1/webhooks/default/rotate-secret").json["previous_secret_expires_at"] is None


def test_a_secret_is_told_when_it_is_made_and_nowhere_else(api: Api, worker: HandWorker, log: Any) -> None:
    made = api.register("https://example.com/hook")
    path = f"/v1/webhooks/{made['id']}"
    secrets = [made["secret"], api.post(f"{path}/rotate-secret").json["secret"]]
    secrets.append(api.get("/v1/webhooks/default/secret").json["secret"])
    secrets.append(api.post("/v1/webhooks/default/rotate-secret").json["secret"])
    assert len({*secrets}) == 4
    job = api.submit(webhook="https://example.com/job")
    worker.work()
    (delivery, _) = api.deliveries()
    said = [
        api.get(path),
        api.get("/v1/webhooks"),
        api.request("PATCH", path, json={"description": "x"}),
        api.request("PATCH", path, json={"url": secrets[0]}),
        api.post(f"{path}/test"),
        api.post(f"{path}/recover", json={"since": made["created_at"]}),
        api.post(f"{path}/rotate-secret", json={"grace_period_seconds": "x"}),
        api.get("/v1/webhooks/deliveries"),
        api.get(f"/v1/webhooks/deliveries/{delivery['id']}"),
        api.post(f"/v1/webhooks/deliveries/{delivery['id']}/redeliver"),
        api.post("/v1/webhooks", json={"url": "https://example.com/", "secret": secrets[0]}),
        api.get(f"/v1/webhooks?secret={secrets[0]}"),
        api.get(f"/v1/jobs/{job['id']}"),
        api.request("DELETE", path),
        api.get(path),
    ]
    for answer in said:
        assert "whsec_" not in answer.text, answer.request
    everything = str(log())
    assert "/v1/webhooks/<endpoint_id>" in everything
    assert "whsec_" not in everything
    for secret in secrets:
        assert secret.removeprefix("whsec_") not in everything


def test_a_secret_under_a_key_that_is_gone_is_an_error_that_tells_the_operator_alone(
    api: Api, log: Any
) -> None:
    api.get("/v1/webhooks/default/secret")
    api.queue.execute("UPDATE tenants SET webhook_secret = '1.lost.' || split_part(webhook_secret, '.', 3)")
    answer = api.get("/v1/webhooks/default/secret")
    assert (answer.status_code, answer.json["code"]) == (500, "internal_error")
    assert "lost" not in answer.text
    (failed,) = [line for line in log() if line["event"] == "http.failed"]
    assert "'lost'" in str(failed["error"])


# Test events


def test_a_test_event_is_queued_for_that_endpoint_alone(api: Api) -> None:
    made = api.register(events=["job.started"])
    api.register()
    assert api.bells() == 0
    answer = api.post(f"/v1/webhooks/{made['id']}/test")
    delivery = answer.json
    assert answer.status_code == 202
    assert (delivery["event"], delivery["endpoint_id"]) == ("endpoint.test", made["id"])
    assert (delivery["url"], delivery["job_id"]) == (made["url"], None)
    assert (delivery["status"], delivery["attempts"]) == ("pending", [])
    assert api.bells() == 1
    assert [one["id"] for one in api.deliveries()] == [delivery["id"]]
    (row,) = api.queue.execute("SELECT payload FROM webhook_deliveries")
    assert row.payload == shown(made)


@pytest.mark.parametrize(
    "options", [{"json": {}}, {"data": b"", "headers": {"Content-Type": "application/json"}}]
)
def test_a_test_takes_no_options(api: Api, options: dict[str, Any]) -> None:
    path = f"/v1/webhooks/{api.register()['id']}/test"
    assert api.post(path, **options).status_code == 202
    refused(api.post(path, json={"event": "job.completed"}), "/event", "unknown_field")


def test_nothing_is_sent_to_a_disabled_endpoint(api: Api) -> None:
    made = api.register()
    path = f"/v1/webhooks/{made['id']}"
    api.request("PATCH", path, json={"status": "disabled"})
    for answer in (
        api.post(f"{path}/test"),
        api.post(f"{path}/recover", json={"since": made["created_at"]}),
    ):
        assert (answer.status_code, answer.json["code"]) == (409, "endpoint_disabled")
    assert api.deliveries() == []
    assert api.bells() == 0


# Who may


ROUTES = [
    ("POST", "/v1/webhooks", "webhooks:write"),
    ("GET", "/v1/webhooks", "webhooks:read"),
    ("GET", "/v1/webhooks/{whk}", "webhooks:read"),
    ("PATCH", "/v1/webhooks/{whk}", "webhooks:write"),
    ("DELETE", "/v1/webhooks/{whk}", "webhooks:write"),
    ("POST", "/v1/webhooks/{whk}/rotate-secret", "webhooks:write"),
    ("POST", "/v1/webhooks/{whk}/test", "webhooks:write"),
    ("POST", "/v1/webhooks/{whk}/recover", "webhooks:write"),
    ("GET", "/v1/webhooks/default/secret", "webhooks:write"),
    ("POST", "/v1/webhooks/default/rotate-secret", "webhooks:write"),
    ("GET", "/v1/webhooks/deliveries", "webhooks:read"),
    ("GET", "/v1/webhooks/deliveries/{dlv}", "webhooks:read"),
    ("POST", "/v1/webhooks/deliveries/{dlv}/redeliver", "webhooks:write"),
]
BODIES = {"recover": {"since": "2020-01-01T00:00:00Z"}, "PATCH": {"description": "theirs"}}


def body_for(method: str, path: str) -> dict[str, Any]:
    body = BODIES.get(path.rpartition("/")[2]) or BODIES.get(method)
    return {"json": body} if body else {}


def test_every_route_is_here(reader: Api) -> None:
    served = {
        (method, rule.rule.replace("<endpoint_id>", "{whk}").replace("<delivery_id>", "{dlv}"))
        for rule in reader.app.url_map.iter_rules()
        if rule.rule.startswith("/v1/webhooks")
        for method in rule.methods or ()
    }
    assert {pair for pair in served if pair[0] not in ("HEAD", "OPTIONS")} == {
        (method, path) for method, path, _ in ROUTES
    }


@pytest.mark.parametrize(("method", "path", "scope"), ROUTES)
def test_without_its_scope_nothing_is_done(reader: Api, method: str, path: str, scope: str) -> None:
    lacking = reader.with_key(*(other for other in SCOPES if other != scope))
    answer = lacking.request(method, path.format(whk=NOBODY, dlv=NOTHING))
    assert (answer.status_code, answer.json["code"]) == (403, "missing_scope")
    assert scope in answer.json["detail"]


@pytest.mark.parametrize(("method", "path"), [route[:2] for route in ROUTES if "{" in route[1]])
def test_what_is_another_tenants_is_not_there(api: Api, stranger: Api, method: str, path: str) -> None:
    made = api.register()
    delivery = api.post(f"/v1/webhooks/{made['id']}/test").json
    before = api.queue.execute("SELECT * FROM webhook_endpoints"), api.deliveries()
    options = body_for(method, path)
    code = "delivery_not_found" if "{dlv}" in path else "endpoint_not_found"
    answers = [
        stranger.request(method, path.format(whk=made["id"], dlv=delivery["id"]), **options),
        stranger.request(method, path.format(whk=NOBODY, dlv=NOTHING), **options),
        *(
            api.request(method, path.format(whk=text, dlv=text), **options)
            for text in ("x", "whk_", "whk_" + "g" * 32, "job_" + "0" * 32, "%00", "%ff")
        ),
    ]
    for answer in answers:
        assert (answer.status_code, answer.json["code"]) == (404, code), answer.text
        assert answer.json["detail"] == answers[0].json["detail"]
    assert (api.queue.execute("SELECT * FROM webhook_endpoints"), api.deliveries()) == before


def test_lists_show_what_is_ones_own(api: Api, stranger: Api) -> None:
    made = api.register()
    delivery = api.post(f"/v1/webhooks/{made['id']}/test").json
    for path in (
        "/v1/webhooks",
        f"/v1/webhooks?after={made['id']}",
        "/v1/webhooks/deliveries",
        f"/v1/webhooks/deliveries?endpoint_id={made['id']}",
        f"/v1/webhooks/deliveries?after={delivery['id'][:-1]}f",
    ):
        assert stranger.get(path).json["data"] == []
