"""What is given wrongly is told by its name and place, before anything is sent."""

import pickle
from datetime import UTC, datetime

import pytest
from client_testkit import Reply
from headrace import Client, Job

CYCLE: list[object] = []
CYCLE.append(CYCLE)


@pytest.mark.parametrize(
    ("value", "kind", "message"),
    [
        ({"at": datetime.now(UTC)}, TypeError, r"/input/at: datetime is no JSON; send \.isoformat\(\)"),
        ({"a": [1, b"x"]}, TypeError, r"/input/a/1: bytes is no JSON; send base64 text"),
        ({"a": {"b": {1, 2}}}, TypeError, "/input/a/b: set is no JSON; send a list"),
        ({"a": {("x", 1): 2}}, TypeError, "/input/a: a key is tuple, and must be text"),
        ({"a": float("nan")}, ValueError, "/input/a: nan is no number in JSON"),
        ({"a": -1e400}, ValueError, "/input/a: -inf is no number in JSON"),
        ({"a": "\ud800"}, ValueError, "/input/a: half of a surrogate pair is no text"),
        ({"\ud800": "a"}, ValueError, "/input: half of a surrogate pair is no text"),
        (CYCLE, ValueError, "Circular"),
    ],
)
def test_what_is_no_json_is_told_with_its_place(client, script, value, kind, message):
    with pytest.raises(kind, match=message):
        client.submit("echo", value)
    with pytest.raises(kind):
        client.batches.submit([value], model="echo")
    assert not script.requests


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"timeout": "10"}, TypeError, "timeout is a number of seconds, not str"),
        ({"timeout": None}, TypeError, "timeout is a number of seconds"),
        ({"timeout": 0}, ValueError, "timeout is a number of seconds above 0"),
        ({"timeout": float("nan")}, ValueError, "timeout is a number of seconds, not nan"),
        ({"timeout": -1}, ValueError, "timeout is a number of seconds above 0"),
        ({"max_retries": -1}, ValueError, "max_retries is a whole number, 0 for none, not -1"),
        ({"max_retries": None}, ValueError, "max_retries is a whole number"),
        ({"base_url": 1}, TypeError, "base_url is text, not int"),
        ({"api_key": b"hr_a_b"}, TypeError, "api_key is text, not bytes"),
    ],
)
def test_a_client_that_could_not_work_is_not_made(options, kind, message):
    with pytest.raises(kind, match=message):
        Client(**{"base_url": "http://127.0.0.1:1", "api_key": "hr_a_b", **options})


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda client: client.jobs.get(5), TypeError, "the id of a job is text, not int"),
        (lambda client: client.jobs.get(Job({"id": "job_1"}, None)), TypeError, "not Job; give its id"),
        (lambda client: client.jobs.get(""), ValueError, "the id of a job is needed"),
        (lambda client: client.batches.get(None), TypeError, "the id of a batch is text, not NoneType"),
        (lambda client: client.files.get(".."), ValueError, "the id of a file is needed"),
        (lambda client: client.models.get(None), TypeError, "the id of a model is text"),
        (lambda client: next(client.jobs.list(limit=-1)), ValueError, "limit is how many you get in all"),
        (lambda client: next(client.jobs.list(limit="5")), ValueError, "limit is how many you get in all"),
        (lambda client: client.run("echo", {}, timeout="5"), TypeError, "timeout is a number of seconds"),
        (lambda client: client.submit("echo", {}, wait="5"), TypeError, "wait is a number of seconds"),
        (lambda client: client.run("echo", {}, timeout=float("nan")), ValueError, "timeout is .*, not nan"),
        (lambda client: client.files.create(b"abc"), TypeError, r"not bytes; bytes: io\.BytesIO"),
        (lambda client: pickle.dumps(client), TypeError, "make one in each process"),
    ],
)
def test_a_wrong_argument_is_named_and_nothing_is_sent(client, script, call, kind, message):
    with pytest.raises(kind, match=message):
        call(client)
    assert not script.requests


def test_a_timeout_without_end_is_none_of_a_sockets(server, script, key):
    script.then(Reply(body={"object": "list", "data": []}))
    with Client(server.url, key, timeout=float("inf")) as client:
        assert client.models.list() == []
