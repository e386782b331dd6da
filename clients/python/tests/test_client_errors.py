"""Every answer that is no success has a type, and says what is wrong without saying the key."""

import pickle
import threading
import traceback

import headrace
import pytest
from client_testkit import LoopbackServer, Reply, Script, job, problem
from headrace import APIConnectionError, APIError, APITimeoutError, Client, HeadraceError, Job, WaitTimeout
from headrace.problems import error_from, retry_after

BY_STATUS = {
    400: headrace.BadRequestError,
    401: headrace.AuthenticationError,
    403: headrace.PermissionDeniedError,
    404: headrace.NotFoundError,
    409: headrace.ConflictError,
    413: headrace.PayloadTooLargeError,
    415: headrace.UnsupportedMediaTypeError,
    422: headrace.ValidationError,
    429: headrace.RateLimitError,
    500: headrace.ServerError,
    503: headrace.ServerError,
    418: headrace.APIError,
}


@pytest.mark.parametrize("status", BY_STATUS)
def test_each_status_has_its_type(client, script, status):
    script.then(problem(status, "some_code", "some detail", retryable=False))
    with pytest.raises(APIError) as caught:
        client.jobs.get("job_1")
    error = caught.value
    assert type(error) is BY_STATUS[status]
    assert (error.status, error.code, error.detail) == (status, "some_code", "some detail")
    assert error.request_id == "req_7"
    assert str(error) == f"{status} some_code: some detail (request req_7)"


def test_a_validation_error_names_every_field(client, script):
    wrong = [
        {"pointer": "/input/text", "code": "type", "message": "must be a string"},
        {"pointer": "/priority", "code": "enum", "message": "must be high, normal or low"},
    ]
    script.then(problem(422, "invalid_request", "2 fields are wrong", errors=wrong))
    with pytest.raises(headrace.ValidationError) as caught:
        client.submit("echo", {"text": 1})
    assert [field.pointer for field in caught.value.errors] == ["/input/text", "/priority"]
    assert "/input/text: must be a string; /priority: must be high" in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"<html>no</html>", b"[]", b'"no"', b"null", b"\xff"])
def test_an_answer_that_is_no_problem_document_is_still_an_error(body):
    error = error_from(503, {"X-Request-Id": "req_9"}, body)
    assert type(error) is headrace.ServerError
    assert (error.code, error.detail) == ("http_503", "Service Unavailable")
    assert error.request_id == "req_9"
    assert error.retryable


@pytest.mark.parametrize("errors", ["text", [1], [{}], {"a": 1}])
def test_a_malformed_list_of_fields_does_no_harm(errors):
    body = str({"code": "x", "errors": errors}).replace("'", '"').encode()
    str(error_from(422, {}, body))


@pytest.mark.parametrize("value", ["", "soon", "-3", "1.5", "²"])
def test_an_unreadable_retry_after_is_none(value):
    assert retry_after({"Retry-After": value}) is None


def test_retry_after_as_a_date():
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    until = "Wed, 21 Oct 2015 07:28:30 GMT"
    assert retry_after({"Retry-After": until, "Date": date}) == 30.0
    assert retry_after({"Retry-After": date, "Date": until}) == 0.0
    assert retry_after({"Retry-After": until}) is None


def test_a_success_that_is_not_json_says_that_the_url_may_be_wrong(client, script):
    script.then(Reply(200, b"<html>hello</html>", {"Content-Type": "text/html"}))
    with pytest.raises(APIError, match="got text/html; is the URL right"):
        client.models.list()


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
def test_a_refusal_of_another_server_says_so_too(client, script, status):
    script.then(Reply(status, b"<html>no such page</html>", {"Content-Type": "text/html"}))
    with pytest.raises(APIError, match="not from a Headrace server; is the URL right"):
        client.models.list()


def test_redirects_are_not_followed_anywhere(client, script, key):
    elsewhere = Script().then(Reply(body=job()))
    with LoopbackServer(elsewhere) as other:
        for status in (301, 302, 303, 307, 308):
            script.then(Reply(status, None, {"Location": f"{other.url}/v1/jobs"}))
            with pytest.raises(APIError, match="never followed"):
                client.submit("echo", {})
    assert elsewhere.requests == []


def test_api_errors_survive_pickling():
    error = error_from(422, {"Retry-After": "3"}, b'{"code":"x","errors":[{"pointer":"/a"}]}')
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert vars(copy) == vars(error)
    lost = pickle.loads(pickle.dumps(APIConnectionError("gone", retryable=False)))
    assert (str(lost), lost.retryable) == ("gone", False)


def test_nobody_listening(key, clock):
    with LoopbackServer(Script()) as gone:
        url = gone.url
    client = Client(url, key, max_retries=0, clock=clock.as_clock())
    with pytest.raises(APIConnectionError) as caught:
        client.models.list()
    hint = "headracectl up starts a development stack"
    assert str(caught.value) == f"can't reach {url}: Connection refused ({hint})"


def test_a_server_that_does_not_answer_is_a_timeout(server, script, key, clock):
    finished = threading.Event()

    def hang(request):
        finished.wait(10)
        return Reply(body=job())

    script.then(hang)
    client = Client(server.url, key, timeout=0.05, max_retries=0, clock=clock.as_clock())
    with pytest.raises(APITimeoutError, match="did not answer in time"):
        client.jobs.get("job_1")
    finished.set()


def test_an_answer_cut_short_is_a_connection_error(server, key, clock):
    def cut(request):
        return Reply(200, None, {"Content-Type": "application/json"}, pieces=[b'{"id":'])

    with LoopbackServer(cut) as broken:
        client = Client(broken.url, key, max_retries=0, clock=clock.as_clock())
        # No length was announced, so what came is all there is: not JSON.
        with pytest.raises(HeadraceError):
            client.jobs.get("job_1")


def test_the_key_is_in_no_repr_and_no_trace(client, script):
    script.then(*[Reply(drop=True)] * 5)
    script.then(problem(401, "unauthenticated"))
    shown = [repr(client), str(client), repr(vars(client)), repr(vars(client._transport))]
    for _ in range(2):
        with pytest.raises(HeadraceError) as caught:
            client.jobs.get("job_1")
        error = caught.value
        shown += [repr(error), str(error), repr(vars(error))]
        shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
        # No way from the error to the request, whose headers hold the key.
        assert error.__cause__ is None
        assert error.__context__ is None
    assert not any("s3cret" in text for text in shown)


def test_a_wait_that_ended_says_what_the_job_waits_for():
    waiting = Job({"id": "job_1", "status": "queued", "status_reason": "waiting_for_worker"}, None)
    assert str(WaitTimeout(waiting, 3)) == "job_1 is still queued (waiting_for_worker) after 3 s"
    assert (
        str(WaitTimeout(Job({"id": "job_1", "status": "running"}, None), 3))
        == "job_1 is still running after 3 s"
    )
