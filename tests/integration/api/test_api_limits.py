"""Limits: of requests, of jobs, of bytes, and of all work together."""

import contextlib
import io
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import requests
from pydantic import SecretStr

from app.db.pressure import Work
from app.domain.lanes import Device
from app.domain.pressure import Load
from app.factory import create_app
from app.intake import pressure as pressure_module
from tests.integration.api.client import Api, HandWorker
from tests.integration.api.server import serve


def limit(api: Api, **limits: int) -> None:
    """Give the tenant these limits, and let every application forget the old ones."""
    members = ", ".join(f"{name} = :{name}" for name in limits)
    api.queue.execute(f"UPDATE tenants SET {members} WHERE id = :id", id=api.queue.tenant_id, **limits)


@contextlib.contextmanager
def second(api: Api) -> Iterator[Api]:
    """Another process of the API: it shares servers with the first and nothing else."""
    app = create_app(api.settings)
    yield Api(app, api.queue, api.settings, api.key)
    parts = app.extensions["headrace"]
    parts.wakeups.close()
    parts.engine.dispose()


def test_no_limit_no_headers(api: Api) -> None:
    answer = api.get("/v1/jobs")
    assert "RateLimit" not in answer.headers
    assert "RateLimit-Policy" not in answer.headers


def test_two_processes_share_a_request_limit_exactly_under_32_clients(api: Api) -> None:
    limit(api, requests_per_minute=100)
    with second(api) as other, ThreadPoolExecutor(32) as pool:

        def ask(number: int) -> int:
            status: int = (api, other)[number % 2].with_client().get("/v1/models").status_code
            return status

        statuses = list(pool.map(ask, range(300)))
    assert statuses.count(200) == 100
    assert statuses.count(429) == 200


def test_two_servers_share_a_request_limit_exactly_under_32_clients(api: Api, tmp_path: Path) -> None:
    """As above, with gunicorn's processes and sockets: two servers of one process each."""
    limit(api, requests_per_minute=100)
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    headers = {"Authorization": f"Bearer {api.key}"}
    with (
        serve(api.settings, tmp_path / "a", HEADRACE_API_PROCESSES="1") as one,
        serve(api.settings, tmp_path / "b", HEADRACE_API_PROCESSES="1") as other,
        ThreadPoolExecutor(32) as pool,
    ):

        def ask(number: int) -> requests.Response:
            return requests.get(f"{(one, other)[number % 2].url}/v1/models", headers=headers, timeout=30)

        answers = list(pool.map(ask, range(300)))
    statuses = [answer.status_code for answer in answers]
    assert (statuses.count(200), statuses.count(429)) == (100, 200)
    assert all("Retry-After" in answer.headers for answer in answers if answer.status_code == 429)


def test_a_refusal_says_which_policy_and_when_to_come_back(api: Api) -> None:
    limit(api, requests_per_minute=5, key_requests_per_minute=2)
    first, _, refused = (api.get("/v1/models") for _ in range(3))
    assert first.headers["RateLimit-Policy"] == '"key";q=2;w=60, "tenant";q=5;w=60'
    assert first.headers["RateLimit"].startswith('"key";r=1;t=')
    assert refused.status_code == 429
    assert refused.json["code"] == "too_many_requests"
    assert refused.json["violated-policies"] == ["key"]
    assert refused.json["retryable"] is True
    assert 1 <= int(refused.headers["Retry-After"]) <= 61
    assert refused.headers["RateLimit"].startswith('"key";r=0;t=')
    # Another key of the tenant has a limit of its own; what the first was refused cost the tenant nothing.
    other = api.with_key("jobs:read", tenant_id=api.queue.tenant_id)
    assert '"tenant";r=2;' in other.get("/v1/models").headers["RateLimit"]


def test_without_redis_each_process_counts_alone_and_says_so_once(
    database_url: str, log: Any, api: Api
) -> None:
    limit(api, requests_per_minute=3)
    away = api.settings.model_copy(update={"redis_url": type(api.settings.redis_url)("redis://127.0.0.1:1")})
    app = create_app(away)
    alone = Api(app, api.queue, away, api.key)
    statuses = [alone.get("/v1/models").status_code for _ in range(5)]
    app.extensions["headrace"].wakeups.close()
    app.extensions["headrace"].engine.dispose()
    assert statuses == [200] * 3 + [429] * 2
    assert [line["event"] for line in log()].count("limits.alone") == 1


def test_a_clock_that_is_set_back_makes_nobody_wait_for_longer_than_a_window(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(api, requests_per_minute=2)
    away = api.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})
    alone = Api(create_app(away), api.queue, away, api.key)
    for each in (api, alone):
        assert [each.get("/v1/models").status_code for _ in range(3)] == [200, 200, 429]
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() - 600)
    for each in (api, alone):
        monkeypatch.setattr(each.app.extensions["headrace"].rates, "_wall", time.time)
    refused = api.get("/v1/models")
    assert (refused.status_code, 1 <= int(refused.headers["Retry-After"]) <= 60) == (429, True)
    assert alone.get("/v1/models").status_code == 200, "what it counted lies in the future"


def test_jobs_over_the_quota_are_refused_at_create_and_room_is_seen(api: Api, worker: HandWorker) -> None:
    limit(api, queued_jobs=10)
    for _ in range(10):
        api.submit()
    refused = api.post("/v1/jobs", json={"model": "echo", "input": {}})
    assert (refused.status_code, refused.json["code"]) == (429, "job_quota_exceeded")
    assert refused.json["violated-policies"] == ["queued_jobs"]
    assert refused.headers["Retry-After"]
    assert api.jobs_written() == 10
    worker.claim()
    _until(lambda: api.post("/v1/jobs", json={"model": "echo", "input": {}}).status_code == 202)


def test_jobs_in_flight_are_those_that_have_not_ended(api: Api, worker: HandWorker) -> None:
    limit(api, in_flight_jobs=2)
    api.submit()
    api.submit()
    claimed = worker.claim()
    refused = api.post("/v1/jobs", json={"model": "echo", "input": {}})
    assert refused.json["violated-policies"] == ["in_flight_jobs"]
    worker.settle(claimed[0])
    _until(lambda: api.post("/v1/jobs", json={"model": "echo", "input": {}}).status_code == 202)


def test_a_repeated_request_gets_its_first_answer_over_the_quota_too(api: Api) -> None:
    limit(api, queued_jobs=1)
    first = api.submit(headers={"Idempotency-Key": "a"})
    again = api.post("/v1/jobs", json={"model": "echo", "input": {}}, headers={"Idempotency-Key": "a"})
    assert (again.status_code, again.json["id"]) == (202, first["id"])
    fresh = api.post("/v1/jobs", json={"model": "echo", "input": {}}, headers={"Idempotency-Key": "b"})
    assert fresh.status_code == 429


def test_a_batch_over_the_quota_is_refused_at_create(api: Api) -> None:
    limit(api, queued_jobs=1)
    lines = [
        {"custom_id": str(n), "method": "POST", "url": "/v1/jobs", "body": {"model": "echo", "input": {}}}
        for n in range(2)
    ]
    body = {"endpoint": "/v1/jobs", "completion_window": "24h", "requests": lines}
    refused = api.post("/v1/batches", json=body)
    assert (refused.status_code, refused.json["code"]) == (429, "job_quota_exceeded")
    assert api.post("/v1/batches", json={**body, "requests": lines[:1]}).status_code == 200


def test_another_tenants_jobs_do_not_count(api: Api, stranger: Api) -> None:
    limit(api, queued_jobs=1)
    for _ in range(3):
        stranger.submit()
    api.submit()


def test_stored_bytes_of_a_tenant(api: Api) -> None:
    limit(api, stored_bytes=5000)
    form = {"purpose": "batch", "file": (io.BytesIO(b"x" * 6000), "a.jsonl")}
    refused = api.post("/v1/files", data=form, content_type="multipart/form-data")
    assert (refused.status_code, refused.json["code"]) == (413, "file_quota_exceeded")


def test_overload_is_503_with_retry_after(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.app.extensions["headrace"].pressure, "_most_s", 5.0)
    load = Load(300, 0, 60.0, 0.0, on_interactive=2, on_batch=2, on_both=2)
    monkeypatch.setattr(pressure_module.sql, "work", lambda _: Work({Device.CPU: load}, 0))
    refused = api.post("/v1/jobs", json={"model": "echo", "input": {}})
    assert (refused.status_code, refused.json["code"]) == (503, "overloaded")
    assert refused.headers["Retry-After"] == "25"


def _until(done: Any) -> None:
    from tests.support.waiting import wait_until

    wait_until(done, 5, "room")
