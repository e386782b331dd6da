"""Every error is a problem with a request id, whoever raised it, and none tells too much."""

from typing import Any

import orjson
import pytest

from app.api.catalogue_of_errors import CODES
from app.db import jobs
from tests.integration.api.client import Api

MEMBERS = {
    "type",
    "title",
    "status",
    "detail",
    "instance",
    "code",
    "request_id",
    "retryable",
    "errors",
    "error",
}


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/v1", 404, "not_found"),
        ("GET", "/v1/jobs/", 404, "not_found"),
        ("GET", "//v1/jobs", 404, "not_found"),
        ("GET", "/docs/../app/wsgi.py", 404, "not_found"),
        ("GET", "/docs/nothing.js", 404, "not_found"),
        ("GET", "/%00", 404, "not_found"),
        ("GET", "/%ff%fe", 404, "not_found"),
        ("PUT", "/v1/jobs", 405, "method_not_allowed"),
        ("POST", "/livez", 405, "method_not_allowed"),
        ("BREW", "/v1/jobs", 405, "method_not_allowed"),
        ("GET", "/v1/models/nope", 404, "model_not_found"),
        ("GET", "/v1/models/echo@nope", 404, "model_not_found"),
        ("GET", "/v1/models/%00", 404, "model_not_found"),
    ],
)
def test_the_frameworks_errors_are_problems_too(
    reader: Api, method: str, path: str, status: int, code: str
) -> None:
    answer = reader.request(method, path)
    problem = orjson.loads(answer.data)
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    assert set(problem) == MEMBERS
    assert (problem["status"], problem["code"], problem["error"]["code"]) == (status, code, code)
    assert problem["type"] == f"/docs/errors#{code}"
    assert set(problem["error"]) == {"message", "type", "param", "code"}
    assert ("Allow" in answer.headers) == (status == 405)


def test_a_bug_is_a_500_that_tells_nothing_but_the_request_id(
    api: Api, monkeypatch: pytest.MonkeyPatch, log: Any
) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a secret detail")

    monkeypatch.setattr(jobs, "get_many", broken)
    answer = api.get("/v1/jobs/job_" + "0" * 32, headers={"X-Request-Id": "mine-1"})
    problem = orjson.loads(answer.data)
    assert (answer.status_code, problem["code"], problem["request_id"]) == (500, "internal_error", "mine-1")
    assert "secret" not in answer.text
    failed = [line for line in log() if line["event"] == "http.failed"]
    assert failed[0]["request_id"] == "mine-1"
    assert failed[0]["error"][0].startswith("builtins.KeyError")
    assert any("broken" in frame for frame in failed[0]["trace"])


def test_a_database_error_logs_no_values(api: Api, monkeypatch: pytest.MonkeyPatch, log: Any) -> None:
    from sqlalchemy import text

    monkeypatch.setattr(jobs, "_GET", text("SELECT CAST('my diary' AS json), :ids"))
    assert api.get("/v1/jobs/job_" + "0" * 32).status_code == 500
    (failed,) = [line for line in log() if line["event"] == "http.failed"]
    assert "22P02" in str(failed["error"])
    assert "diary" not in str(log())


def test_logs_hold_ids_but_neither_payloads_nor_secrets(api: Api, log: Any) -> None:
    api.submit({"text": "my diary"}, metadata={"name": "alice"}, headers={"X-Request-Id": "r-1"})
    (line,) = [line for line in log() if line["event"] == "http.request"]
    assert line["request_id"] == "r-1"
    assert (line["tenant"], line["key_id"]) == ("default", api.key.split("_")[1])
    assert (line["method"], line["route"], line["status"]) == ("POST", "/v1/jobs", 202)
    everything = str(log())
    for secret in ("diary", "alice", api.key.split("_")[2], api.settings.secret_key.get_secret_value()):
        assert secret not in everything


@pytest.mark.parametrize("given", ["abc", "A1._:/+=@-", "x" * 128])
def test_a_request_id_is_honoured(reader: Api, given: str) -> None:
    for path in ("/livez", "/nowhere", "/v1/jobs"):
        assert reader.http.get(path, headers={"X-Request-Id": given}).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", " ", "x" * 129, "a b", "ä", "a\x00b", '"', "<script>"])
def test_one_that_is_long_or_strange_is_replaced(reader: Api, given: str) -> None:
    answer = reader.http.get("/livez", headers={"X-Request-Id": given})
    assert answer.headers["X-Request-Id"].startswith("req_")


def test_request_ids_are_new_each_time(reader: Api) -> None:
    assert len({reader.http.get("/livez").headers["X-Request-Id"] for _ in range(10)}) == 10


def test_answers_are_not_cached_nor_sniffed(reader: Api) -> None:
    for path in ("/v1/jobs", "/nowhere", "/livez"):
        headers = reader.get(path).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_every_code_is_explained_on_the_page_that_types_point_to(reader: Api) -> None:
    page = reader.http.get("/docs/errors").text
    for code in CODES:
        assert f'id="{code}"' in page


@pytest.mark.parametrize("host", ["a b", "x" * 5000, "[::1", "evil.example/..", "\xff", "a:b:c", ""])
def test_a_strange_host_is_no_bug_of_ours(api: Api, host: str) -> None:
    job = api.submit()
    answer = api.get(f"/v1/jobs/{job['id']}", headers={"Host": host})
    assert answer.status_code in (200, 400), answer.text
