"""Probes and metrics: what they say when a service is gone, and how fast."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from app.factory import create_app
from tests.integration.api.client import Api
from tests.integration.api.conftest import open_api, small_settings
from tests.integration.api.door import Door, door_to
from tests.support.waiting import wait_until

NOBODY = "redis://127.0.0.1:1/0"
JOB = {"model": "echo", "input": {}}


@pytest.fixture
def behind_door(database_url: str, redis_url: str) -> Iterator[tuple[Api, Door]]:
    """The application, whose Postgres is behind a door."""
    with door_to(database_url) as (door, url), open_api(url, redis_url) as api:
        yield api, door


def test_alive_and_ready(reader: Api) -> None:
    assert reader.http.get("/livez").json == {"status": "ok"}
    ready = reader.http.get("/readyz")
    assert ready.status_code == 200
    assert ready.json == {
        "status": "ready",
        "checks": {"postgres": {"ok": True, "reason": None}, "redis": {"ok": True, "reason": None}},
    }


@pytest.mark.parametrize("how", ["shut", "stick"])
def test_without_postgres_it_is_not_ready_within_5_seconds_and_comes_back(
    behind_door: tuple[Api, Door], how: str
) -> None:
    api, door = behind_door
    assert api.http.get("/readyz").status_code == 200
    getattr(door, how)()
    began = time.monotonic()
    wait_until(lambda: api.http.get("/readyz").status_code == 503, 5, "503")
    assert time.monotonic() - began < 5
    problem = api.http.get("/readyz")
    assert (problem.mimetype, problem.json["code"]) == ("application/problem+json", "not_ready")
    assert problem.json["checks"]["postgres"]["ok"] is False
    assert "postgres" in problem.json["detail"]
    assert problem.headers["Retry-After"]
    assert api.http.get("/livez").status_code == 200
    door.open()
    wait_until(lambda: api.http.get("/readyz").status_code == 200, 30, "it to be ready again")


def test_without_postgres_requests_are_503_and_then_work_again(behind_door: tuple[Api, Door]) -> None:
    api, door = behind_door
    before = api.submit()
    door.shut()
    for answer in (
        api.post("/v1/jobs", json=JOB),
        api.get("/v1/jobs"),
        api.get(f"/v1/jobs/{before['id']}"),
        api.get(f"/v1/jobs/{before['id']}/events"),
        api.post(f"/v1/jobs/{before['id']}/cancel"),
    ):
        assert (answer.status_code, answer.json["code"]) == (503, "unavailable")
        assert answer.json["retryable"] is True
        assert answer.headers["Retry-After"]
    door.open()
    wait_until(lambda: api.post("/v1/jobs", json=JOB).status_code == 202, 20, "it to accept again")
    assert api.get(f"/v1/jobs/{before['id']}").json["status"] == "queued"


def test_a_stream_that_loses_postgres_ends_and_can_be_resumed(behind_door: tuple[Api, Door]) -> None:
    api, door = behind_door
    job = api.submit()
    stream = iter(api.get(f"/v1/jobs/{job['id']}/events", buffered=False).response)
    assert next(stream).startswith(b"retry")
    assert b"event: status" in next(stream)
    door.shut()
    assert list(stream) == []
    door.open()
    resumed = api.get(f"/v1/jobs/{job['id']}/events", buffered=False)
    assert resumed.status_code == 200
    resumed.close()


def test_without_redis_it_is_degraded_but_accepts(database_url: str) -> None:
    with open_api(database_url, NOBODY) as api:
        ready = api.http.get("/readyz")
        assert (ready.status_code, ready.json["status"]) == (200, "degraded")
        assert ready.json["checks"]["redis"]["ok"] is False
        began = time.monotonic()
        for _ in range(20):
            assert api.post("/v1/jobs", json=JOB).status_code == 202
        assert time.monotonic() - began < 5
        assert api.jobs_written() == 20


def test_without_the_schema_it_is_not_ready(empty_database_url: str, redis_url: str) -> None:
    app = create_app(small_settings(empty_database_url, redis_url))
    answer: Any = app.test_client().get("/readyz")
    assert answer.status_code == 503
    assert "migrate" in answer.json["detail"]


def test_metrics_count_by_route_and_hold_no_ids(api: Api) -> None:
    job = api.submit()
    api.get(f"/v1/jobs/{job['id']}")
    api.get("/nowhere/at/all")
    answer = api.http.get("/metrics")
    assert answer.mimetype == "text/plain"
    text = answer.text
    assert 'headrace_http_requests_total{method="POST",route="/v1/jobs",status="202"}' in text
    assert 'headrace_accept_jobs_total{model="echo"}' in text
    assert 'route="unmatched"' in text
    assert job["id"] not in text
    assert "/nowhere" not in text


def test_the_index_leads_on(reader: Api) -> None:
    index = reader.http.get("/").json
    assert index["name"] == "headrace"
    for link in ("docs", "openapi"):
        assert reader.http.get(index[link]).status_code == 200


def test_a_database_without_connections_left_is_told_and_comes_back(
    api: Api, log: Callable[[], list[dict[str, Any]]]
) -> None:
    name = api.queue.engine.url.database
    engine = api.app.extensions["headrace"].engine
    api.submit()
    api.queue.execute(f"ALTER DATABASE {name} CONNECTION LIMIT 0")
    engine.dispose()
    refused = api.send(b'{"model": "echo", "input": {}}')
    assert (refused.status_code, refused.json["code"]) == (503, "no_room")
    assert refused.json["detail"] == "the database takes no more connections"
    (line,) = [line for line in log() if line["event"] == "http.unavailable"]
    assert line["error"][0] == "app.errors.NoRoom: the database takes no more connections"
    api.queue.execute(f"ALTER DATABASE {name} CONNECTION LIMIT -1")
    api.submit()
