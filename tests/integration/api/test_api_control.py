"""Cancel, retry, delete."""

import pytest

from app.db import progress
from app.domain.states import JobStatus
from tests.integration.api.client import Api, HandWorker, uuid_of


def test_a_queued_job_is_canceled_at_once(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    answer = api.post(f"/v1/jobs/{job['id']}/cancel")
    assert (answer.status_code, answer.json["status"]) == (200, "canceled")
    assert answer.json["completed_at"]
    assert worker.claim() == []


def test_the_sender_is_rung_when_a_job_ends_by_being_canceled(api: Api, worker: HandWorker) -> None:
    running = api.submit()
    worker.claim()
    queued = api.submit()
    api.post(f"/v1/jobs/{running['id']}/cancel")
    assert api.bells() == 0
    api.post(f"/v1/jobs/{queued['id']}/cancel")
    assert api.bells() == 1


def test_a_running_job_is_asked_and_ends_with_its_micro_batch(api: Api, worker: HandWorker) -> None:
    job, neighbour = api.submit(), api.submit()
    claimed = worker.claim()
    asked = api.post(f"/v1/jobs/{job['id']}/cancel")
    assert (asked.status_code, asked.json["status"]) == (200, "running")
    assert asked.json["status_reason"] == "cancel_requested"
    for one in claimed:
        worker.settle(one)
    assert api.get(f"/v1/jobs/{job['id']}").json["status"] == "canceled"
    assert api.get(f"/v1/jobs/{neighbour['id']}").json["status"] == "succeeded"


def test_a_deferred_job_is_canceled_at_once(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    (claimed,) = worker.claim()
    worker.settle(claimed, JobStatus.QUEUED, delay_s=60.0, reason="retry_backoff", output=None)
    assert api.get(f"/v1/jobs/{job['id']}").json["status_reason"] == "retry_backoff"
    assert api.post(f"/v1/jobs/{job['id']}/cancel").json["status"] == "canceled"


@pytest.mark.parametrize("end", [JobStatus.SUCCEEDED, JobStatus.FAILED])
def test_a_job_that_ended_stays_as_it_is(api: Api, worker: HandWorker, end: JobStatus) -> None:
    job = api.submit()
    worker.work(end)
    before = api.get(f"/v1/jobs/{job['id']}").json
    for _ in range(2):
        assert api.post(f"/v1/jobs/{job['id']}/cancel").json == before


def test_canceling_twice_is_canceling(api: Api) -> None:
    path = f"/v1/jobs/{api.submit()['id']}/cancel"
    assert api.post(path).json == api.post(path).json


def test_a_failed_job_says_why(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    worker.work(JobStatus.FAILED)
    shown = api.get(f"/v1/jobs/{job['id']}").json
    assert (shown["status"], shown["error"]["code"]) == ("failed", "boom")
    assert shown["output"] is None
    assert shown["attempts"][0]["error_code"] == "boom"


def test_retry_is_a_new_job_of_the_same(api: Api, worker: HandWorker) -> None:
    options = {
        "priority": "low",
        "metadata": {"k": "v"},
        "use_case": "search",
        "webhook": "https://example.com/",
        "webhook_events_filter": ["started"],
        "policy": {"queue_ttl_s": 100, "execution_timeout_s": 5},
        "retry": {"max_attempts": 7, "initial_delay_ms": 1, "max_delay_ms": 2},
    }
    first = api.submit({"n": 18446744073709551615, "f": 0.1}, **options)
    worker.work(JobStatus.FAILED)
    answer = api.post(f"/v1/jobs/{first['id']}/retry")
    second = answer.json
    assert answer.status_code == 202
    assert answer.headers["Location"] == second["urls"]["get"]
    assert second["id"] != first["id"]
    assert second["retry_of"] == first["id"]
    assert second["status"] == "queued"
    differing = {"id", "retry_of", "created_at", "expires_at", "urls"}
    assert {k: v for k, v in second.items() if k not in differing} == {
        k: v for k, v in first.items() if k not in differing
    }
    one, two = api.queue.get(uuid_of(first)), api.queue.get(uuid_of(second))
    for name in ("execution_timeout_s", "max_attempts", "initial_delay_ms", "webhook", "webhook_events"):
        assert getattr(one, name) == getattr(two, name)
    assert two.expires_at - two.created_at == one.expires_at - one.created_at
    hashes = api.queue.execute("SELECT DISTINCT input_hash FROM jobs")
    assert len(hashes) == 1


def test_retry_with_a_key_is_one_job(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    worker.work()
    path, key = f"/v1/jobs/{job['id']}/retry", {"Idempotency-Key": "once"}
    assert api.post(path, headers=key).json == api.post(path, headers=key).json
    assert api.jobs_written() == 2


@pytest.mark.parametrize("claimed", [False, True])
def test_a_job_that_lives_is_neither_retried_nor_erased(api: Api, worker: HandWorker, claimed: bool) -> None:
    job = api.submit({"text": "kept"})
    if claimed:
        worker.claim()
    for method, tail in [("POST", "/retry"), ("DELETE", "")]:
        answer = api.request(method, f"/v1/jobs/{job['id']}{tail}")
        assert (answer.status_code, answer.json["code"]) == (409, "job_not_finished")
    assert api.get(f"/v1/jobs/{job['id']}").json["input"] == {"text": "kept"}


def test_erasing_leaves_the_record(api: Api, worker: HandWorker) -> None:
    job = api.submit({"secret": 1}, metadata={"name": "x"})
    worker.work()
    path = f"/v1/jobs/{job['id']}"
    answer = api.request("DELETE", path)
    erased = answer.json
    assert answer.status_code == 200
    assert (erased["input"], erased["output"], erased["metadata"]) == (None, None, {})
    assert (erased["status"], erased["usage"]["units"]) == ("succeeded", 3)
    assert erased["erased_at"]
    assert api.request("DELETE", path).json == erased
    assert api.get(path).json == erased
    again = api.post(f"{path}/retry")
    assert (again.status_code, again.json["code"]) == (409, "job_erased")


def test_progress_is_shown_while_it_runs(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    (claimed,) = worker.claim()
    progress.report(api.queue.engine, claimed.id, claimed.epoch, 0.5, "half")
    path = f"/v1/jobs/{job['id']}"
    assert api.get(path).json["progress"] == {"fraction": 0.5, "message": "half"}
    worker.settle(claimed)
    assert api.get(path).json["progress"] is None
