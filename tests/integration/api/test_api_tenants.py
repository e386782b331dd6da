"""Tenants, keys and the audit log, as an operator has them over HTTP."""

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event

from app.db import audit, tenants
from app.domain.ids import format_id
from app.intake.view import WORKER
from tests.integration.api.client import Api
from tests.integration.api.conftest import Clock, open_api


def made(api: Api, tenant: str = "acme", **asked: Any) -> dict[str, Any]:
    """A key of this tenant, as answered."""
    answer = api.post(f"/v1/tenants/{tenant}/keys", json=asked)
    assert answer.status_code == 201, answer.text
    key: dict[str, Any] = answer.json
    return key


def as_key(api: Api, key: str) -> Api:
    return Api(api.app, api.queue, api.settings, key)


def lines(api: Api) -> list[tuple[str, str]]:
    return [(row["action"], row["subject"]) for row in api.get("/v1/audit?limit=100").json["data"]]


def test_a_tenant_is_made_once_changed_and_listed(api: Api) -> None:
    answer = api.post("/v1/tenants", json={"id": "acme", "weight": 3, "queued_jobs": 7})
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"].endswith("/v1/tenants/acme")
    assert api.get("/v1/tenants/acme").json == answer.json
    assert (answer.json["weight"], answer.json["queued_jobs"], answer.json["stored_bytes"]) == (3, 7, None)
    again = api.post("/v1/tenants", json={"id": "acme"})
    assert (again.status_code, again.json["code"]) == (409, "tenant_exists")
    changed = api.request("PATCH", "/v1/tenants/acme", json={"queued_jobs": None, "stored_bytes": 5})
    assert (changed.json["weight"], changed.json["queued_jobs"], changed.json["stored_bytes"]) == (3, None, 5)
    first = api.get("/v1/tenants?limit=1").json
    assert (first["last_id"], first["has_more"]) == ("acme", True)
    rest = api.get("/v1/tenants?after=acme").json
    assert [row["id"] for row in rest["data"]] == ["default"]
    assert lines(api)[:2] == [("tenants.set", "acme"), ("tenants.create", "acme")]


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        ("/v1/tenants", {"id": "Not A Name"}, "/id"),
        ("/v1/tenants", {"id": "acme", "weight": 0}, "/weight"),
        ("/v1/tenants", {"id": "acme", "queued_jobs": -1}, "/queued_jobs"),
        ("/v1/tenants/default/keys", {"scopes": ["jobs:all"]}, "/scopes/0"),
        ("/v1/tenants/default/keys", {"expires_at": "tomorrow"}, "/expires_at"),
        ("/v1/tenants/default/keys", {"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ("/v1/keys/OWN/rotate", {"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
    ],
)
def test_what_is_wrong_is_named(api: Api, path: str, body: Any, pointer: str) -> None:
    answer = api.post(path.replace("OWN", api.key.split("_")[1]), json=body)
    assert (answer.status_code, answer.json["errors"][0]["pointer"]) == (422, pointer)


def test_a_key_is_seen_once_and_does_what_it_may(api: Api) -> None:
    api.post("/v1/tenants", json={"id": "acme"})
    key = made(api, name="backend", scopes=["jobs:read"])
    theirs = as_key(api, key["key"])
    assert theirs.get("/v1/jobs").status_code == 200
    assert theirs.post("/v1/jobs", json={}).json["code"] == "missing_scope"
    shown = api.get("/v1/tenants/acme/keys")
    assert [row["id"] for row in shown.json["data"]] == [key["id"]]
    secret = key["key"].rsplit("_", 1)[1]
    assert secret not in shown.text
    assert secret not in api.get("/v1/audit").text
    assert "admin" not in made(api)["scopes"], "which is given by name only"
    page = api.get("/v1/tenants/acme/keys?limit=1").json
    after = api.get(f"/v1/tenants/acme/keys?after={page['last_id']}").json
    assert (page["has_more"], [row["id"] for row in after["data"]]) == (True, [key["id"]])
    assert api.get("/v1/tenants/default/keys").json["data"][0]["tenant"] == "default"


def test_a_rotated_key_works_beside_its_successor_for_the_grace_period(
    database_url: str, redis_url: str, clock: Clock
) -> None:
    with open_api(database_url, redis_url, clock=clock) as api:
        api.post("/v1/tenants", json={"id": "acme"})
        old = made(api, scopes=["jobs:read"])
        new = api.post(f"/v1/keys/{old['id']}/rotate").json
        assert (new["scopes"], new["tenant"], new["expires_at"]) == (["jobs:read"], "acme", None)
        for key in (old, new):
            assert as_key(api, key["key"]).get("/v1/jobs").status_code == 200
        ends = {row["id"]: row["expires_at"] for row in api.get("/v1/tenants/acme/keys").json["data"]}
        assert ends[old["id"]] is not None
        newest = api.post(f"/v1/keys/{new['id']}/rotate", json={"grace_period_seconds": 0}).json
        clock.now += api.settings.api.cache_ttl_s + 0.1
        assert as_key(api, new["key"]).get("/v1/jobs").status_code == 401
        assert as_key(api, newest["key"]).get("/v1/jobs").status_code == 200
        assert api.post(f"/v1/keys/{new['id']}/rotate").json["code"] == "key_not_found", "it has ended"


def test_a_key_is_rotated_once_unless_it_is_said_when_the_next_one_ends(api: Api) -> None:
    """What is left of its lifetime is its grace period, which nobody wants for a successor."""
    old = made(api, "default")
    grace = {"grace_period_seconds": 60}
    new = api.post(f"/v1/keys/{old['id']}/rotate", json=grace).json
    refused = api.post(f"/v1/keys/{old['id']}/rotate", json=grace)
    assert (refused.status_code, refused.json["code"]) == (409, "key_rotated")
    assert f"rotate its successor {new['id']}" in refused.json["detail"]
    assert "`expires_at`" in refused.json["detail"]
    assert lines(api)[1] == ("keys.create", old["id"]), "nothing was done"
    asked = (datetime.now(UTC) + timedelta(days=7)).isoformat(timespec="seconds")
    other = api.post(f"/v1/keys/{old['id']}/rotate", json={"expires_at": asked}).json
    assert datetime.fromisoformat(other["expires_at"]) == datetime.fromisoformat(asked)
    refused = api.post(f"/v1/keys/{old['id']}/rotate")
    assert f"successor {other['id']}" in refused.json["detail"]
    assert api.post(f"/v1/keys/{new['id']}/rotate").json["expires_at"] is None, "it has no successor yet"


def test_of_two_who_rotate_a_key_at_once_one_is_told_of_the_other(api: Api) -> None:
    old = made(api, "default")
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: api.with_client().post(f"/v1/keys/{old['id']}/rotate"), range(4)))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    (new,) = (answer.json["id"] for answer in answers if answer.status_code == 201)
    assert all(new in answer.json["detail"] for answer in answers if answer.status_code == 409)


def lifetime(key: dict[str, Any]) -> timedelta:
    return datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(key["created_at"])


def test_a_successor_lives_as_long_as_its_predecessor_was_to_live_or_until_it_is_said(api: Api) -> None:
    api.post("/v1/tenants", json={"id": "acme"})
    end = datetime.now(UTC) + timedelta(days=90)
    old = made(api, expires_at=end.isoformat())
    api.queue.execute(
        "UPDATE api_keys SET created_at = created_at - interval '9 days', expires_at = expires_at - interval"
        " '9 days' WHERE id = :id",
        id=old["id"],
    )
    new = api.post(f"/v1/keys/{old['id']}/rotate").json
    assert lifetime(new) == lifetime(old)
    assert datetime.fromisoformat(new["expires_at"]) > end - timedelta(seconds=1)
    asked = (datetime.now(UTC) + timedelta(days=7)).isoformat(timespec="seconds")
    newest = api.post(f"/v1/keys/{new['id']}/rotate", json={"expires_at": asked}).json
    assert datetime.fromisoformat(newest["expires_at"]) == datetime.fromisoformat(asked)
    told = api.get("/v1/audit?limit=1").json["data"][0]
    assert told["details"]["new"] == newest["id"]
    assert datetime.fromisoformat(told["details"]["new_expires_at"]) == datetime.fromisoformat(asked)


def test_a_lifetime_can_be_as_long_as_times_are(api: Api) -> None:
    old = made(api, "default", expires_at="9999-12-30T00:00:00Z")
    assert api.post(f"/v1/keys/{old['id']}/rotate").json["expires_at"].startswith("9999-")


def test_a_key_can_not_disable_its_own_tenant(api: Api) -> None:
    refused = api.request("PATCH", "/v1/tenants/default", json={"disabled": True, "weight": 9})
    assert (refused.status_code, refused.json["code"]) == (409, "own_tenant")
    assert "headracectl tenants set default --disabled" in refused.json["detail"]
    assert api.get("/v1/tenants/default").json["weight"] == 1, "nothing is half done"
    assert api.request("PATCH", "/v1/tenants/default", json={"disabled": False}).status_code == 200
    api.post("/v1/tenants", json={"id": "acme"})
    other = as_key(api, made(api, scopes=["admin"])["key"])
    assert other.request("PATCH", "/v1/tenants/default", json={"disabled": True}).status_code == 200


def test_every_process_refuses_a_revoked_key_and_a_disabled_tenants_within_two_seconds(
    database_url: str, redis_url: str, clock: Clock
) -> None:
    with (
        open_api(database_url, redis_url, clock=clock) as api,
        open_api(database_url, redis_url, clock=clock) as other,
    ):
        assert api.settings.api.cache_ttl_s <= 2
        api.post("/v1/tenants", json={"id": "acme"})
        revoked, idle = made(api), made(api)
        seen_by_both = [as_key(one, key["key"]) for one in (api, other) for key in (revoked, idle)]
        assert [one.get("/v1/jobs").status_code for one in seen_by_both] == [200] * 4
        for _ in range(2):
            assert api.post(f"/v1/keys/{revoked['id']}/revoke").json["live"] is False
        clock.now += 2
        assert [one.get("/v1/jobs").status_code for one in seen_by_both] == [401, 200, 401, 200]
        assert api.request("PATCH", "/v1/tenants/acme", json={"disabled": True}).json["disabled_at"]
        clock.now += 2
        assert [one.get("/v1/jobs").status_code for one in seen_by_both] == [401] * 4
        assert api.request("PATCH", "/v1/tenants/acme", json={"disabled": False}).json["disabled_at"] is None
        clock.now += 2
        assert [one.get("/v1/jobs").status_code for one in seen_by_both] == [401, 200, 401, 200]
        assert lines(api).count(("keys.revoke", revoked["id"])) == 1


def test_what_can_not_be_noted_is_not_done(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line and the action are one transaction."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no line")

    api.post("/v1/tenants", json={"id": "acme"})
    key = made(api, scopes=["jobs:read"])
    worker = format_id(WORKER, api.queue.worker().id)
    monkeypatch.setattr(audit, "write", broken)
    asked = [
        ("POST", "/v1/tenants", {"id": "late"}),
        ("PATCH", "/v1/tenants/acme", {"weight": 9}),
        ("POST", "/v1/tenants/acme/keys", {}),
        ("POST", f"/v1/keys/{key['id']}/rotate", {}),
        ("POST", f"/v1/keys/{key['id']}/revoke", {}),
        ("POST", f"/v1/workers/{worker}/drain", None),
    ]
    for method, path, body in asked:
        assert api.request(method, path, json=body).status_code == 500, path
    assert tenants.get(api.queue.engine, "late") is None
    assert api.get("/v1/tenants/acme").json["weight"] == 1
    assert [row["live"] for row in api.get("/v1/tenants/acme/keys").json["data"]] == [True]
    assert [row["state"] for row in api.get("/v1/workers").json["data"]] == ["ready"]


def test_the_log_is_read_page_by_page(api: Api) -> None:
    for n in range(3):
        api.post("/v1/tenants", json={"id": f"t{n}"})
    first = api.get("/v1/audit?limit=2&action=tenants").json
    assert ([row["subject"] for row in first["data"]], first["has_more"]) == (["t2", "t1"], True)
    rest = api.get(f"/v1/audit?action=tenants&after={first['last_id']}").json
    assert ([row["subject"] for row in rest["data"]], rest["has_more"]) == (["t0", "default"], False)
    assert rest["data"][0]["actor"] == f"key:{api.key.split('_')[1]}"
    assert api.get("/v1/audit?after=x").json["code"] == "invalid_cursor"


# What belongs to a tenant, and how a statement names whose rows it wants.
_OWNED_TABLES = (
    "FROM jobs ",
    "FROM batches ",
    "FROM files ",
    "FROM webhook_endpoints ",
    "FROM webhook_deliveries ",
)
_NAMES_THEM = re.compile(r"tenant_id = (%\(tenant_id\)s|ANY \(%\(tenant_ids\)s|wanted\.tenant_id)")


def test_every_read_of_a_tenants_table_names_the_tenant(api: Api) -> None:
    statements: list[str] = []

    def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(" ".join(statement.split()))

    engine = api.app.extensions["headrace"].engine
    event.listen(engine, "before_cursor_execute", note)
    job, endpoint = api.submit()["id"], api.register()["id"]
    delivery = api.post(f"/v1/webhooks/{endpoint}/test").json["id"]
    for path in (
        f"/v1/jobs/{job}",
        "/v1/jobs?status=queued&model=echo",
        f"/v1/webhooks/{endpoint}",
        "/v1/webhooks",
        f"/v1/webhooks/deliveries/{delivery}",
        "/v1/webhooks/deliveries",
        "/v1/batches",
        "/v1/files",
    ):
        assert api.get(path).status_code == 200, path
    read = [one for one in statements if any(table in f"{one} " for table in _OWNED_TABLES)]
    assert len(read) >= 8
    assert not [one for one in read if not _NAMES_THEM.search(one)]
