"""Submitting, waiting, finding and acting on jobs."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from client_testkit import JOB_ID, Reply, job
from headrace import JobCanceled, JobExpired, JobFailed, WaitTimeout


def test_submit_sends_what_was_given_and_nothing_else(client, script, key):
    script.then(Reply(202, job()), Reply(202, job()))
    client.submit("echo", None)
    assert script.requests[0].json == {"model": "echo", "input": None}
    client.submit(
        "echo@1",
        {"text": "hi"},
        version="1",
        priority="high",
        webhook="https://example.com/hook",
        webhook_events_filter=["completed"],
        policy={"queue_ttl_s": 60, "execution_timeout_s": 5},
        retry={"max_attempts": 1},
        use_case="search",
        metadata={"k": "v"},
    )
    sent = script.requests[1]
    assert (sent.method, sent.path) == ("POST", "/v1/jobs")
    assert sent.headers["Authorization"] == f"Bearer {key}"
    assert sent.headers["User-Agent"] == "headrace-python/0.1.0"
    assert sent.headers["Content-Type"] == "application/json"
    assert "Prefer" not in sent.headers
    assert sent.json == {
        "model": "echo@1",
        "input": {"text": "hi"},
        "version": "1",
        "priority": "high",
        "webhook": "https://example.com/hook",
        "webhook_events_filter": ["completed"],
        "policy": {"queue_ttl_s": 60, "execution_timeout_s": 5},
        "retry": {"max_attempts": 1},
        "use_case": "search",
        "metadata": {"k": "v"},
    }


def test_submit_with_wait_is_one_request(client, script):
    script.then(Reply(200, job("succeeded")))
    assert client.submit("echo", {}, wait=1.2).done
    assert script.requests[0].headers["Prefer"] == "wait=2"


@pytest.mark.parametrize("wait", [-1, 60.5, 3600])
def test_submit_refuses_a_wait_the_server_would_not_give(client, script, wait):
    with pytest.raises(ValueError, match="60 seconds"):
        client.submit("echo", {}, wait=wait)
    assert script.requests == []


@pytest.mark.parametrize("value", [float("nan"), {"x": {1, 2}}, {"x": "\ud800"}])
def test_what_is_no_json_is_refused_before_it_is_sent(client, script, value):
    with pytest.raises((TypeError, ValueError)):
        client.submit("echo", value)
    assert script.requests == []


@pytest.mark.parametrize("idempotency_key", ["", "x" * 256, "a\r\nX-Evil: 1", "ü"])
def test_an_idempotency_key_that_is_no_header_is_refused(client, script, idempotency_key):
    with pytest.raises(ValueError, match="1 to 255 printable"):
        client.submit("echo", {}, idempotency_key=idempotency_key)
    assert script.requests == []


def test_run_is_one_request_if_the_job_ends_in_time(client, script):
    script.then(Reply(200, job("succeeded")))
    assert client.run("echo", {"text": "hi"}, priority="low") == {"text": "hi"}
    (request,) = script.requests
    assert request.headers["Prefer"] == "wait=50"
    assert request.json["priority"] == "low"


def test_run_polls_only_after_a_202(client, script, clock):
    def held(request):
        clock.advance(50)
        return Reply(202, job("running"))

    script.then(held, held, Reply(body=job("succeeded")))
    assert client.run("echo", {}, timeout=120) == {"text": "hi"}
    post, first, second = script.requests
    assert [post.method, first.method, second.method] == ["POST", "GET", "GET"]
    assert first.path == f"/v1/jobs/{JOB_ID}"
    assert [r.headers["Prefer"] for r in script.requests] == ["wait=50", "wait=50", "wait=20"]
    assert clock.sleeps == []


def test_run_passes_the_idempotency_key_as_a_header_only(client, script):
    script.then(Reply(200, job("succeeded")))
    client.run("echo", {}, idempotency_key="order-7")
    (request,) = script.requests
    assert request.headers["Idempotency-Key"] == "order-7"
    assert "idempotency_key" not in request.json


@pytest.mark.parametrize("option", ["wait", "metadat"])
def test_run_refuses_an_option_that_does_not_exist(client, script, option):
    with pytest.raises(TypeError, match=f"no such option: {option}"):
        client.run("echo", {}, **{option: 1})
    assert script.requests == []


@pytest.mark.parametrize(
    ("status", "kind"), [("failed", JobFailed), ("canceled", JobCanceled), ("expired", JobExpired)]
)
def test_run_raises_what_became_of_the_job(client, script, status, kind):
    script.then(Reply(200, job(status)))
    with pytest.raises(kind) as caught:
        client.run("echo", {})
    assert caught.value.job.status == status
    assert str(caught.value).startswith(f"{JOB_ID} {status}")


def test_a_failure_says_why(client, script):
    script.then(Reply(200, job("failed")))
    with pytest.raises(JobFailed, match="failed: model_error: as asked"):
        client.run("echo", {})


def test_run_out_of_time_hands_over_the_job(client, script, clock):
    def held(request):
        clock.advance(3)
        return Reply(202, job("running"))

    script.then(held, Reply(body=job("running")))
    with pytest.raises(WaitTimeout, match="after 3 s") as caught:
        client.run("echo", {}, timeout=3)
    assert caught.value.job.id == JOB_ID


def test_wait_returns_the_job_whatever_became_of_it(client, script):
    script.then(Reply(202, job()), Reply(body=job("failed")))
    submitted = client.submit("echo", {})
    assert submitted.wait() is submitted
    assert submitted.status == "failed"
    assert submitted.wait() is submitted
    assert len(script.requests) == 2


def test_wait_raises_in_time_and_says_how_it_stands(client, script, clock):
    def held(request):
        clock.advance(float(request.headers["Prefer"].removeprefix("wait=")))
        return Reply(body=job("running"))

    script.then(Reply(202, job()), held, held)
    with pytest.raises(WaitTimeout, match=r"is still running after 70 s"):
        client.submit("echo", {}).wait(70)
    assert [r.headers.get("Prefer") for r in script.requests] == [None, "wait=50", "wait=20"]


def test_wait_zero_looks_once(client, script):
    script.then(Reply(202, job()), Reply(body=job("running")))
    with pytest.raises(WaitTimeout):
        client.submit("echo", {}).wait(0)
    assert "Prefer" not in script.requests[1].headers


def test_a_server_that_does_not_hold_is_not_hammered(client, script, clock):
    at_once = Reply(body=job("running"))
    slower = Reply(body=job("running"), headers={"Retry-After": "3"})
    script.then(Reply(202, job()), *[at_once] * 5, slower, Reply(body=job("succeeded")))
    client.submit("echo", {}).wait(100)
    assert clock.sleeps == [0.5, 1.0, 2.0, 4.0, 4.0, 3.0]


def test_times_are_parsed_and_the_rest_is_as_sent(client, script):
    script.then(Reply(body=job("succeeded", brand_new={"field": 1})))
    found = client.jobs.get(JOB_ID)
    assert found.created_at == datetime(2026, 1, 31, 12, 0, 0, 123456, UTC)
    assert found.completed_at == datetime(2026, 1, 31, 12, 0, 1, tzinfo=UTC)
    assert found.started_at is None
    assert found.metrics["batch_size"] == 8
    assert found.usage["unit"] == "tokens"
    assert found.raw["brand_new"] == {"field": 1}
    assert repr(found) == f"Job('{JOB_ID}', 'succeeded')"


def test_a_job_with_the_least_a_server_may_send(client, script):
    script.then(Reply(body={"id": "job_1", "status": "queued"}))
    found = client.jobs.get("job_1")
    assert not found.done
    assert (found.metadata, found.metrics, found.usage, found.attempts) == ({}, {}, {}, [])
    assert (found.output, found.error, found.created_at) == (None, None, None)


def test_acting_on_a_job(client, script):
    script.then(
        Reply(body=job("running")),
        Reply(202, job("running", status_reason="cancel_requested")),
        Reply(body=job("canceled")),
        Reply(202, job(id="job_2", retry_of=JOB_ID)),
        Reply(204),
    )
    found = client.jobs.get(JOB_ID)
    assert found.cancel().status_reason == "cancel_requested"
    assert found.refresh().status == "canceled"
    again = found.retry()
    assert (again.id, again.retry_of) == ("job_2", JOB_ID)
    found.delete()
    assert (found.input, found.metadata) == (None, {})
    assert [(r.method, r.path.removeprefix(f"/v1/jobs/{JOB_ID}")) for r in script.requests] == [
        ("GET", ""),
        ("POST", "/cancel"),
        ("GET", ""),
        ("POST", "/retry"),
        ("DELETE", ""),
    ]


def test_jobs_are_equal_by_id(client, script):
    script.then(Reply(body=job()), Reply(body=job("running")), Reply(body=job(id="job_2")))
    first, second, other = (client.jobs.get(JOB_ID) for _ in range(3))
    assert first == second
    assert {first, second, other} == {first, other}


@pytest.mark.parametrize("job_id", ["", ".", ".."])
def test_an_id_that_is_none_never_becomes_another_path(client, script, job_id):
    with pytest.raises(ValueError, match="id of a job"):
        client.jobs.delete(job_id)
    with pytest.raises(ValueError, match="id of a model"):
        client.models.get(job_id)
    assert script.requests == []


def test_an_id_is_quoted(client, script):
    script.then(Reply(body=job()), Reply(body={"id": "a/b"}))
    client.jobs.get("job_1/../../secret?x")
    client.models.get("a/b@2")
    assert script.requests[0].path == "/v1/jobs/job_1%2F..%2F..%2Fsecret%3Fx"
    assert script.requests[1].path == "/v1/models/a%2Fb@2"


def _page(*ids, more):
    return Reply(
        body={"object": "list", "data": [job(id=i) for i in ids], "last_id": ids[-1], "has_more": more}
    )


def test_a_list_is_fetched_as_it_is_read(client, script):
    script.then(_page("job_4", "job_3", more=True), _page("job_2", "job_1", more=False))
    found = client.jobs.list()
    assert script.requests == []
    assert next(found).id == "job_4"
    assert next(found).id == "job_3"
    assert len(script.requests) == 1
    assert [j.id for j in found] == ["job_2", "job_1"]
    assert script.requests[0].query == {"limit": "100"}
    assert script.requests[1].query == {"limit": "100", "after": "job_3"}


def test_a_list_stops_at_the_limit_without_asking_for_more(client, script):
    script.then(_page("job_4", "job_3", more=True), _page("job_2", more=True))
    assert len(list(client.jobs.list(limit=3))) == 3
    assert [r.query["limit"] for r in script.requests] == ["3", "1"]
    assert list(client.jobs.list(limit=0)) == []


def test_an_empty_page_ends_a_list_whatever_it_says(client, script):
    script.then(Reply(body={"data": [], "last_id": None, "has_more": True}))
    assert list(client.jobs.list()) == []


def test_filters_are_sent(client, script):
    script.then(_page("job_1", more=False))
    tokyo = timezone(timedelta(hours=9))
    list(
        client.jobs.list(
            status="failed",
            model="echo",
            created_after=datetime(2026, 1, 31, 9, tzinfo=tokyo),
            created_before="2026-02-01T00:00:00Z",
            metadata={"team": "a&b"},
            after="job_9",
            limit=1,
        )
    )
    assert script.requests[0].query == {
        "status": "failed",
        "model": "echo",
        "created_after": "2026-01-31T00:00:00Z",
        "created_before": "2026-02-01T00:00:00Z",
        "metadata[team]": "a&b",
        "after": "job_9",
        "limit": "1",
    }


def test_models_and_workers(client, script):
    model = {"id": "minilm", "object": "model", "created": 1767225600, "owned_by": "headrace"}
    model |= {"version": "2", "versions": ["1", "2"], "description": None}
    worker = {"id": "w1", "pool": "p", "purchase": "spot", "state": "ready", "heartbeat_at": None}
    worker |= {"name": "p@host/0", "model": "minilm@2"}
    script.then(Reply(body={"data": [model]}), Reply(body=model), Reply(body={"data": [worker]}))
    assert [m.id for m in client.models.list()] == ["minilm"]
    minilm = client.models.get("minilm")
    assert minilm.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert (minilm.version, minilm.versions, minilm.description) == ("2", ["1", "2"], "")
    (found,) = client.workers.list()
    assert (found.pool, found.purchase, found.state) == ("p", "spot", "ready")
    assert (found.name, found.model, found.heartbeat_at) == ("p@host/0", "minilm@2", None)
