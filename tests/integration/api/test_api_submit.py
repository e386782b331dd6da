"""POST /v1/jobs with what is right: what is answered, and what is written."""

import gzip
from datetime import datetime, timedelta

import orjson
import pytest

from app.db import models
from app.factory import create_app
from tests.integration.api.client import Api, HandWorker, uuid_of
from tests.integration.api.conftest import strict_spec


def test_the_answer_is_202_with_location_and_the_job(api: Api) -> None:
    answer = api.post("/v1/jobs", json={"model": "echo", "input": {"text": "hi"}})
    job = answer.json
    assert answer.status_code == 202
    assert answer.headers["Location"] == job["urls"]["get"] == f"http://localhost/v1/jobs/{job['id']}"
    assert answer.headers["Retry-After"] == "1"
    assert "Preference-Applied" not in answer.headers
    assert job["object"] == "job"
    assert (job["model"], job["version"]) == ("echo", "1")
    assert (job["status"], job["status_reason"]) == ("queued", "waiting_for_worker")
    assert job["input"] == {"text": "hi"}
    assert job["created_at"].endswith("Z")
    lifetime = datetime.fromisoformat(job["expires_at"]) - datetime.fromisoformat(job["created_at"])
    assert lifetime == timedelta(days=1)


def test_the_answer_is_what_get_gives_and_get_tells_the_place_in_the_queue(api: Api) -> None:
    job = api.submit({"text": "hi", "n": [1, 2.5, None]}, metadata={"k": "v"}, use_case="search")
    later = api.submit({})
    assert api.get(f"/v1/jobs/{job['id']}").json == {**job, "queue_position": 1}
    assert api.get(f"/v1/jobs/{later['id']}").json == {**later, "queue_position": 2}


def test_every_option_is_written(api: Api) -> None:
    job = api.submit(
        {"a": 1},
        version="1",
        priority="high",
        webhook="https://example.com/hook?x=1",
        webhook_events_filter=["started", "completed", "started"],
        policy={"queue_ttl_s": 60, "execution_timeout_s": 2.5},
        retry={"max_attempts": 5, "initial_delay_ms": 0, "max_delay_ms": 10},
        use_case="search",
        metadata={"k": "v"},
    )
    row = api.queue.get(uuid_of(job))
    assert (row.priority, row.webhook, row.webhook_events) == (
        0,
        "https://example.com/hook?x=1",
        ["started", "completed"],
    )
    assert (row.expires_at - row.created_at).total_seconds() == 60
    assert row.execution_timeout_s == 2.5
    assert (row.max_attempts, row.initial_delay_ms, row.max_delay_ms) == (5, 0, 10)
    assert (row.use_case, row.metadata) == ("search", {"k": "v"})
    assert job["priority"] == "high"


def test_null_members_count_as_absent(api: Api) -> None:
    names = (
        "version",
        "priority",
        "webhook",
        "webhook_events_filter",
        "policy",
        "retry",
        "use_case",
        "metadata",
    )
    job = api.submit({}, **dict.fromkeys(names))
    assert (job["priority"], job["metadata"]) == ("normal", {})


def test_a_job_may_run_no_longer_than_its_model_allows(api: Api) -> None:
    answer = api.post(
        "/v1/jobs",
        json={"model": "strict", "input": {"text": "x"}, "policy": {"execution_timeout_s": 3000}},
    )
    assert api.queue.get(uuid_of(answer.json)).execution_timeout_s == 30


@pytest.mark.parametrize("named", [{"model": "strict@1"}, {"model": "strict", "version": "1"}])
def test_a_version_can_be_named(api: Api, named: dict[str, str]) -> None:
    models.register(api.queue.engine, strict_spec("2"), actor="test")
    answer = api.post("/v1/jobs", json={**named, "input": {"text": "x"}})
    assert answer.json["version"] == "1"


def test_without_one_the_current_version_is_fixed_on_the_job(api: Api) -> None:
    first = api.post("/v1/jobs", json={"model": "strict", "input": {"text": "x"}}).json
    assert first["version"] == "1"
    models.register(api.queue.engine, strict_spec("2"), actor="test")
    assert api.get(f"/v1/jobs/{first['id']}").json["version"] == "1"


@pytest.mark.parametrize(
    "text",
    [
        '{"big":18446744073709551615,"small":-9223372036854775808}',
        '{"float":0.1,"tiny":5e-324,"huge":1.7976931348623157e308,"one":1.0}',
        '{"b":1,"a":2}',
        '{"nul":"\\u0000","emoji":"\\ud83d\\ude00"}',
        '{"digits":"123456789012345678901234567890"}',
    ],
)
def test_an_input_comes_back_as_it_was_sent(api: Api, worker: HandWorker, text: str) -> None:
    job = api.send(b'{"model":"echo","input":%b}' % text.encode()).json
    assert list(job["input"]) == list(orjson.loads(text))
    worker.work()
    shown = api.get(f"/v1/jobs/{job['id']}").json
    assert shown["input"] == shown["output"] == orjson.loads(text)


def test_of_duplicate_members_the_last_wins(api: Api) -> None:
    assert api.send(b'{"model":"echo","input":{"a":1,"a":2}}').json["input"] == {"a": 2}


def test_a_gzipped_body_is_read(api: Api) -> None:
    body = gzip.compress(b'{"model":"echo","input":{"text":"small when packed"}}')
    assert api.send(body, Content_Encoding="gzip").status_code == 202


def test_a_charset_of_utf8_is_fine(api: Api) -> None:
    body = '{"model":"echo","input":{"text":"ä"}}'.encode()
    assert api.send(body, Content_Type="application/json; charset=UTF-8").json["input"] == {"text": "ä"}


def test_a_finished_job_shows_where_its_time_went(api: Api, worker: HandWorker) -> None:
    job = api.submit({"text": "hi"})
    worker.work()
    shown = api.get(f"/v1/jobs/{job['id']}").json
    assert shown["status"] == "succeeded"
    assert shown["metrics"]["run_time"] == 0.25
    assert shown["metrics"]["batch_size"] == 1
    assert 0 <= shown["metrics"]["queue_time"] <= shown["metrics"]["total_time"]
    assert shown["usage"] == {"units": 3, "unit": "items", "device": "cpu", "device_seconds": 0.125}
    (attempt,) = shown["attempts"]
    assert attempt["outcome"] == "succeeded"
    assert attempt["worker_id"].startswith("worker_")
    assert attempt["started_at"].endswith("Z")


def test_urls_follow_the_configured_address(api: Api) -> None:
    public = api.settings.model_copy(
        update={"api": api.settings.api.model_copy(update={"public_url": "https://api.example.com"})}
    )
    other = Api(create_app(public), api.queue, public, api.key)
    assert other.submit()["urls"]["get"].startswith("https://api.example.com/v1/jobs/job_")


def test_nesting_up_to_the_limit_is_fine(api: Api) -> None:
    deepest = b"[" * 30 + b"]" * 30  # two more levels are around it
    assert api.send(b'{"model":"echo","input":{"a":%b}}' % deepest).status_code == 202
    refused_at = api.send(b'{"model":"echo","input":{"a":[%b]}}' % deepest)
    assert refused_at.json["code"] == "json_too_deep"


def test_brackets_in_strings_do_not_nest(api: Api) -> None:
    assert api.submit({"text": "[{" * 200 + '\\"[[' * 50})["status"] == "queued"


def test_http_webhooks_are_for_development(api: Api) -> None:
    lax = api.settings.model_copy(update={"allow_local_webhooks": True})
    other = Api(create_app(lax), api.queue, lax, api.key)
    assert other.submit(webhook="http://127.0.0.1:9/hook")["status"] == "queued"
