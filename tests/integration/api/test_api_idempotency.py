"""Idempotency-Key: one key, one job."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from uuid import UUID

import orjson
import pytest
import requests
from pydantic import SecretStr

from app.db import accept, tenants
from app.db.engine import make_engine
from app.domain.scopes import SCOPES
from app.factory import create_app
from tests.integration.api.client import Api, HandWorker, uuid_of
from tests.integration.api.server import serve

KEY = {"Idempotency-Key": "order-17"}
BODY = {"model": "echo", "input": {"b": 1, "a": 2}}


def test_the_same_again_gets_the_first_answer_again(api: Api, worker: HandWorker) -> None:
    first = api.post("/v1/jobs", json=BODY, headers=KEY)
    worker.work()
    second = api.post("/v1/jobs", json=BODY, headers=KEY)
    assert (first.status_code, second.status_code) == (202, 202)
    assert second.json == first.json
    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert second.headers["Location"] == first.headers["Location"]
    assert api.jobs_written() == 1


def test_a_replay_that_waits_gets_the_job_as_it_is(api: Api, worker: HandWorker) -> None:
    api.post("/v1/jobs", json=BODY, headers=KEY)
    worker.work()
    answer = api.post("/v1/jobs", json=BODY, headers=KEY | {"Prefer": "wait=5"})
    assert (answer.status_code, answer.json["status"]) == (200, "succeeded")
    assert answer.headers["Idempotent-Replayed"] == "true"


def test_equal_json_is_the_same_body(api: Api) -> None:
    first = api.submit({"b": 1, "a": 2}, headers=KEY)
    again = b' {"input": {"a": 2, "b": 1},  "model": "echo"}'
    assert api.send(again, **KEY).json["id"] == first["id"]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "echo", "input": {"b": 1, "a": 3}},
        {"model": "echo", "input": {"b": 1, "a": 2}, "priority": "high"},
        {"model": "echo", "input": {"b": 1, "a": 2.5}},
    ],
)
def test_another_body_is_refused(api: Api, other: dict[str, object]) -> None:
    api.post("/v1/jobs", json=BODY, headers=KEY)
    answer = api.post("/v1/jobs", json=other, headers=KEY)
    assert (answer.status_code, answer.json["code"]) == (422, "idempotency_key_reused")
    assert api.jobs_written() == 1


def test_a_key_belongs_to_its_tenant_and_its_endpoint(api: Api, worker: HandWorker) -> None:
    first = api.submit(headers=KEY)
    stranger = api.with_key(*SCOPES, tenant_id=tenants.ensure(api.queue.engine, "stranger", actor="test"))
    assert stranger.submit(headers=KEY)["id"] != first["id"]
    worker.work()
    assert api.post(f"/v1/jobs/{first['id']}/retry", headers=KEY).json["id"] != first["id"]


def test_what_was_refused_does_not_use_up_the_key(api: Api) -> None:
    assert api.post("/v1/jobs", json={"model": "strict", "input": {}}, headers=KEY).status_code == 422
    assert api.post("/v1/jobs", json=BODY, headers=KEY).status_code == 202


def test_while_the_first_is_in_flight_the_second_is_told_so(api: Api) -> None:
    """The first request holds its row lock; the second gives up waiting for it."""
    impatient = make_engine(SecretStr(api.settings.database_url.get_secret_value()), statement_timeout_s=1.0)
    other = Api(create_app(api.settings, engine=impatient), api.queue, api.settings, api.key)
    with api.queue.engine.connect() as first:
        transaction = first.execution_options(isolation_level="READ COMMITTED").begin()
        first.exec_driver_sql(
            "INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id)"
            " VALUES (%s, 'jobs', 'order-17', ''::bytea, gen_random_uuid())",
            (api.queue.tenant_id,),
        )
        answer = other.post("/v1/jobs", json=BODY, headers=KEY)
        transaction.rollback()
    assert (answer.status_code, answer.json["code"]) == (409, "idempotency_in_flight")
    assert answer.json["retryable"] is True
    assert answer.headers["Retry-After"] == "1"
    assert other.post("/v1/jobs", json=BODY, headers=KEY).status_code == 202
    assert api.jobs_written() == 1
    impatient.dispose()


def test_an_answer_lost_after_the_commit_is_found_again(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """The process dies between commit and answer: the client repeats, and there is one job."""
    written = accept.accept_group

    def commit_then_die(*arguments: object) -> None:
        written(*arguments)  # type: ignore[arg-type]
        raise RuntimeError("power cut")

    monkeypatch.setattr(accept, "accept_group", commit_then_die)
    assert api.post("/v1/jobs", json=BODY, headers=KEY).status_code == 500
    monkeypatch.undo()
    answer = api.post("/v1/jobs", json=BODY, headers=KEY)
    assert (answer.status_code, answer.headers["Idempotent-Replayed"]) == (202, "true")
    assert api.jobs_written() == 1


def test_an_erased_job_does_not_come_back(api: Api, worker: HandWorker) -> None:
    job = api.submit({"secret": 1}, headers=KEY, metadata={"k": "v"})
    worker.work()
    api.request("DELETE", f"/v1/jobs/{job['id']}")
    body = {"model": "echo", "input": {"secret": 1}, "metadata": {"k": "v"}}
    replayed = api.post("/v1/jobs", json=body, headers=KEY).json
    assert (replayed["id"], replayed["input"], replayed["metadata"]) == (job["id"], None, {})


def test_a_hundred_clients_racing_on_one_key_make_one_job(api: Api, tmp_path: Path) -> None:
    barrier = threading.Barrier(100)

    with serve(api.settings, tmp_path, HEADRACE_API_PROCESSES="2") as server:

        def post(_: int) -> requests.Response:
            barrier.wait(30)
            return requests.post(
                f"{server.url}/v1/jobs",
                data=orjson.dumps(BODY),
                headers={
                    "Authorization": f"Bearer {api.key}",
                    "Content-Type": "application/json",
                    **KEY,
                },
                timeout=60,
            )

        with ThreadPoolExecutor(100) as clients:
            answers = list(clients.map(post, range(100)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.text for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 99
    assert api.jobs_written() == 1
    job_id: UUID = uuid_of(answers[0].json())
    assert api.queue.get(job_id).status == "queued"
