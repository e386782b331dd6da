"""What is tried again, how long the pauses are, and that a retry is the same request."""

import pytest
from client_testkit import Reply, job, problem
from headrace import (
    APIConnectionError,
    APIError,
    Client,
    ConflictError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from headrace.retry import RetryPolicy, is_transient

BROKEN = APIConnectionError("reset")


def test_pauses_are_uniform_below_a_ceiling_that_doubles_up_to_a_cap():
    policy = RetryPolicy(max_retries=9, initial_s=1.0, max_s=5.0)
    assert [policy.pause(BROKEN, n, 1.0) for n in range(5)] == [1, 2, 4, 5, 5]
    assert [policy.pause(BROKEN, n, 0.0) for n in range(5)] == [0, 0, 0, 0, 0]


def test_retry_after_is_a_floor_with_some_jitter_above():
    policy = RetryPolicy(initial_s=1.0)
    limited = RateLimitError(429, "rate_limited", "slow", retryable=True, retry_after=7.0)
    assert policy.pause(limited, 0, 0.0) == 7.0
    assert policy.pause(limited, 0, 0.5) == 7.5


def test_gives_up_after_max_retries_and_when_asked_to_wait_too_long():
    assert RetryPolicy(max_retries=2).pause(BROKEN, 2, 0.5) is None
    later = RateLimitError(429, "rate_limited", "slow", retryable=True, retry_after=3600.0)
    assert RetryPolicy().pause(later, 0, 0.5) is None


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_transient_statuses_are_retried(client, script, clock, status):
    script.then(problem(status, "busy", retryable=True), Reply(202, job()))
    assert client.submit("echo", {}).status == "queued"
    assert clock.sleeps == [0.25]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 415, 422, 500, 501])
def test_other_statuses_are_not(client, script, clock, status):
    script.then(problem(status, "no"))
    with pytest.raises(APIError):
        client.submit("echo", {})
    assert clock.sleeps == []


def test_the_servers_word_that_a_retry_is_useless_counts(client, script, clock):
    script.then(problem(429, "budget_exhausted", retryable=False))
    with pytest.raises(RateLimitError):
        client.submit("echo", {})
    assert clock.sleeps == []


def test_a_proxys_answer_without_a_word_on_it_is_retried(client, script, clock):
    script.then(Reply(502, b"<html>Bad Gateway</html>"), Reply(body=job()))
    client.jobs.get("job_1")
    assert len(clock.sleeps) == 1


def test_a_key_in_flight_is_retried_but_no_other_conflict(client, script):
    script.then(problem(409, "idempotency_in_flight"), Reply(202, job()))
    client.submit("echo", {})
    script.then(problem(409, "not_cancelable"))
    with pytest.raises(ConflictError):
        client.jobs.cancel("job_1")


def test_the_idempotency_key_and_the_body_stay_the_same_over_retries(client, script):
    script.then(Reply(drop=True), problem(503, "busy", retryable=True), Reply(202, job()))
    client.submit("echo", {"text": "ä"})
    keys = {request.headers["Idempotency-Key"] for request in script.requests}
    bodies = {request.body for request in script.requests}
    assert len(script.requests) == 3
    assert len(keys) == len(bodies) == 1


def test_every_call_has_a_key_of_its_own_unless_given(client, script):
    script.then(*[Reply(202, job())] * 3)
    client.submit("echo", {})
    client.submit("echo", {})
    client.submit("echo", {}, idempotency_key="order-7")
    first, second, third = (r.headers["Idempotency-Key"] for r in script.requests)
    assert first != second
    assert third == "order-7"


def test_retrying_a_job_carries_a_key_too(client, script):
    script.then(Reply(drop=True), Reply(202, job(retry_of="job_1")))
    assert client.jobs.retry("job_1").retry_of == "job_1"
    first, second = (request.headers["Idempotency-Key"] for request in script.requests)
    assert first == second


def test_a_dropped_connection_is_retried_and_then_named(client, script, clock):
    script.then(*[Reply(drop=True)] * 5)
    with pytest.raises(APIConnectionError, match="can't reach http://127"):
        client.jobs.get("job_1")
    # Half of 0.5, 1, 2, 4.
    assert clock.sleeps == [0.25, 0.5, 1.0, 2.0]


def test_whoever_waits_for_a_job_outlasts_a_restart(client, script, clock):
    away = [problem(503, "unavailable", retryable=True)] * 9
    script.then(*away, Reply(202, job()), *away, Reply(body=job("succeeded")))
    assert client.run("echo", {}) == {"text": "hi"}
    assert len({r.headers["Idempotency-Key"] for r in script.requests if r.method == "POST"}) == 1
    assert sum(clock.sleeps) > 40


def test_retry_after_in_seconds_is_honoured(client, script, clock):
    limited = problem(429, "rate_limited", retryable=True)
    limited.headers["Retry-After"] = "7"
    script.then(limited, Reply(body=job()))
    client.jobs.get("job_1")
    assert clock.sleeps == [7.25]


def test_retry_after_as_a_date_is_measured_from_the_servers_clock(client, script, clock):
    limited = problem(503, "busy", retryable=True)
    # The test server's clock stands at 07:28:00.
    limited.headers["Retry-After"] = "Wed, 21 Oct 2015 07:28:30 GMT"
    script.then(limited, Reply(body=job()))
    client.jobs.get("job_1")
    assert clock.sleeps == [30.25]


def test_a_caller_short_of_time_gets_the_error_instead_of_a_late_answer(client, script, clock):
    limited = problem(503, "busy", retryable=True)
    limited.headers["Retry-After"] = "30"
    script.then(limited)
    with pytest.raises(ServerError):
        client.run("echo", {}, timeout=10)
    assert clock.sleeps == []


def test_no_retries_if_none_are_wanted(server, script, key, clock):
    script.then(problem(503, "busy", retryable=True))
    with pytest.raises(ServerError):
        Client(server.url, key, max_retries=0, clock=clock.as_clock()).models.list()
    assert len(script.requests) == 1


def test_a_wrong_certificate_is_not_retried():
    assert not is_transient(APIConnectionError("certificate", retryable=False))
    assert not is_transient(NotFoundError(404, "not_found", "no"))
