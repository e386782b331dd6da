"""Who may do what: keys, scopes, and other tenants' things."""

from datetime import UTC, datetime, timedelta

import pytest

from app.db import keys, tenants
from app.db.engine import Engine
from app.domain.scopes import SCOPES
from app.errors import Unauthenticated
from app.intake.authenticate import Authenticator
from tests.integration.api.client import Api
from tests.integration.api.conftest import Clock, open_api


@pytest.mark.parametrize(
    "header",
    [
        "Bearer",
        "Bearer ",
        "Bearer nonsense",
        "Bearer hr_a_b",
        "Bearer hr_" + "a" * 12 + "_" + "b" * 40,
        "Bearer hr_a_b_c",
        "Bearer hr_" + "a" * 500 + "_b",
        "Bearer hr_\xe4_b",
        "Bearer hr_'; DROP TABLE api_keys_b",
        "Bearer {key}x",
        "Bearer {key}, Bearer {key}",
    ],
)
def test_a_wrong_key_is_401_and_all_look_the_same(reader: Api, header: str) -> None:
    answer = reader.http.get("/v1/jobs", headers={"Authorization": header.format(key=reader.key)})
    assert (answer.status_code, answer.json["code"]) == (401, "invalid_api_key")
    assert answer.json["detail"] == "this API key is unknown, revoked or expired"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Basic aHI6eA=="}, {"Authorization": "{key}"}])
def test_without_a_bearers_key_it_is_401_and_says_how_to_send_it(
    reader: Api, headers: dict[str, str]
) -> None:
    sent = {name: value.format(key=reader.key) for name, value in headers.items()}
    answer = reader.http.get("/v1/jobs", headers=sent)
    assert (answer.status_code, answer.json["code"]) == (401, "missing_api_key")
    assert "`Authorization: Bearer hr_…`" in answer.json["detail"]


def test_the_scheme_is_written_in_any_case(reader: Api) -> None:
    assert reader.http.get("/v1/jobs", headers={"Authorization": f"bearer {reader.key}"}).status_code == 200


def test_a_key_is_needed_before_the_body_is_looked_at(reader: Api) -> None:
    assert reader.http.post("/v1/jobs", data=b"{").status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "scope"),
    [
        ("POST", "/v1/jobs", "jobs:write"),
        ("GET", "/v1/jobs", "jobs:read"),
        ("GET", "/v1/jobs/job_x", "jobs:read"),
        ("GET", "/v1/jobs/job_x/events", "jobs:read"),
        ("POST", "/v1/jobs/job_x/cancel", "jobs:write"),
        ("POST", "/v1/jobs/job_x/retry", "jobs:write"),
        ("DELETE", "/v1/jobs/job_x", "jobs:write"),
        ("GET", "/v1/workers", "admin"),
        ("POST", "/v1/workers/worker_x/drain", "admin"),
    ],
)
def test_without_its_scope_nothing_is_done(reader: Api, method: str, path: str, scope: str) -> None:
    lacking = reader.with_key(*(other for other in SCOPES if other != scope))
    answer = lacking.request(method, path)
    assert (answer.status_code, answer.json["code"]) == (403, "missing_scope")
    assert scope in answer.json["detail"]


def test_models_are_for_every_key(reader: Api) -> None:
    assert reader.with_key().get("/v1/models").status_code == 200


def test_an_expired_key_is_401(reader: Api) -> None:
    expired = reader.with_key(*SCOPES, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    assert expired.get("/v1/jobs").status_code == 401


def test_a_revoked_key_works_no_longer_than_it_is_remembered(
    database_url: str, redis_url: str, clock: Clock
) -> None:
    with open_api(database_url, redis_url, clock=clock) as api:
        assert api.get("/v1/models").status_code == 200
        assert keys.revoke(api.queue.engine, api.key.split("_")[1], actor="test")
        clock.now += api.settings.api.cache_ttl_s - 0.1
        assert api.get("/v1/models").status_code == 200
        clock.now += 0.2
        assert api.get("/v1/models").status_code == 401


def test_a_flood_of_unknown_keys_does_not_ask_the_database_twice_nor_push_out_a_known_one(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = Authenticator(
        api.queue.engine, api.settings.secret_key.get_secret_value(), ttl_s=60, clock=lambda: 0.0
    )
    asked: list[str] = []
    find = keys.find

    def counted(engine: Engine, key_id: str) -> keys.KeyRow | None:
        asked.append(key_id)
        return find(engine, key_id)

    monkeypatch.setattr(keys, "find", counted)
    authenticator.authenticate(f"Bearer {api.key}")
    for n in [*range(50), *range(50)]:
        with pytest.raises(Unauthenticated):
            authenticator.authenticate(f"Bearer hr_unknown{n}_secret")
    authenticator.authenticate(f"Bearer {api.key}")
    assert len(asked) == 51


def test_another_tenants_job_is_not_there(api: Api) -> None:
    job = api.submit({"secret": 1})
    stranger = api.with_key(*SCOPES, tenant_id=tenants.ensure(api.queue.engine, "stranger", actor="test"))
    path = f"/v1/jobs/{job['id']}"
    missing = api.get("/v1/jobs/job_" + "0" * 32)
    for method, tail in [
        ("GET", ""),
        ("DELETE", ""),
        ("POST", "/cancel"),
        ("POST", "/retry"),
        ("GET", "/events"),
    ]:
        answer = stranger.request(method, path + tail)
        assert (answer.status_code, answer.json["code"]) == (404, "job_not_found")
        assert answer.json["detail"] == missing.json["detail"]
    assert stranger.get("/v1/jobs").json["data"] == []
    assert stranger.get(f"/v1/jobs?after={job['id']}").json["data"] == []
    assert api.get(path).json["status"] == "queued"


@pytest.mark.parametrize(
    "text", ["x", "job_x", "job_" + "g" * 32, "job_" + "0" * 31, "JOB_" + "0" * 32, "%00", "%ff"]
)
def test_what_is_no_id_names_no_job(reader: Api, text: str) -> None:
    answer = reader.get(f"/v1/jobs/{text}")
    assert (answer.status_code, answer.json["code"]) == (404, "job_not_found")
