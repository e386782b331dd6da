"""Events: the format, live delivery, and coming back without losing one."""

import threading

import pytest
from client_testkit import JOB_ID, Reply, job, problem, sse
from headrace import APIConnectionError, NotFoundError
from headrace.sse import Message, Parser

TRANSCRIPT = (
    b"\xef\xbb\xbf: hello\r\n"
    b"retry: 1500\r\n"
    b'id: 1\nevent: status\ndata: {"status":\r\ndata: "running"}\r\n\r\n'
    b"\n\n"
    b"event: nothing\n\n"
    b"id: 2\rdata:no space \xc3\xa4\r\r"
    b"id: bad\0id\nretry: soon\nunknown: x\ndata\n\n"
    b"data: never dispatched"
)
MESSAGES = [
    Message("1", "status", '{"status":\n"running"}'),
    Message("2", "message", "no space ä"),
    Message("2", "message", ""),
]


def test_the_format_whole():
    parser = Parser()
    assert list(parser.feed(TRANSCRIPT)) == MESSAGES
    assert parser.last_event_id == "2"
    assert parser.retry_s == 1.5


def test_the_format_cut_anywhere():
    for cut in range(len(TRANSCRIPT) + 1):
        parser = Parser()
        found = [*parser.feed(TRANSCRIPT[:cut]), *parser.feed(TRANSCRIPT[cut:])]
        assert found == MESSAGES, cut


def test_the_format_byte_by_byte():
    parser = Parser()
    found = [m for byte in TRANSCRIPT for m in parser.feed(bytes([byte]))]
    assert found == MESSAGES


def _running(script):
    script.then(Reply(body=job("running")))


def test_events_until_completed_and_the_job_is_current(client, script):
    _running(script)
    events = [
        ("status", {"status": "running"}),
        ("progress", {"fraction": 0.5}),
        ("completed", job("succeeded")),
        ("status", {"never": "read"}),
    ]
    script.then(Reply(pieces=[b": ping\n\n", sse(*events)]))
    found = client.jobs.get(JOB_ID)
    seen = list(found.stream())
    assert [(event.id, event.type) for event in seen] == [
        ("1", "status"),
        ("2", "progress"),
        ("3", "completed"),
    ]
    assert seen[1].data == {"fraction": 0.5}
    assert found.output == {"text": "hi"}
    assert len(script.requests) == 2
    assert script.requests[1].headers["Accept"] == "text/event-stream"
    assert script.requests[1].path == f"/v1/jobs/{JOB_ID}/events"


def test_the_job_is_asked_for_if_the_last_event_does_not_hold_it(client, script):
    _running(script)
    script.then(Reply(pieces=[sse(("completed", {"status": "failed"}))]), Reply(body=job("failed")))
    found = client.jobs.get(JOB_ID)
    list(found.stream())
    assert found.error["code"] == "model_error"


def test_an_event_is_seen_while_the_stream_is_open(client, script):
    seen = threading.Event()

    def pieces():
        yield sse(("status", {"status": "running"}))
        assert seen.wait(10), "the client did not see the first event while the stream was open"
        yield sse(("completed", job("succeeded")), start=2)

    _running(script)
    script.then(Reply(pieces=pieces()))
    stream = client.jobs.get(JOB_ID).stream()
    assert next(stream).type == "status"
    seen.set()
    assert next(stream).type == "completed"


def test_a_broken_stream_is_resumed_after_the_last_event(client, script, clock):
    _running(script)
    half = b"id: 9\nevent: progress\nda"
    script.then(
        Reply(pieces=[sse(("status", {}), ("progress", {"fraction": 0.1})) + half]),
        Reply(drop=True),
        problem(503, "restarting", retryable=True),
        Reply(pieces=[sse(("completed", job("succeeded")), start=3)]),
    )
    seen = list(client.jobs.get(JOB_ID).stream())
    assert [event.id for event in seen] == ["1", "2", "3"]
    resumed = [request.headers.get("Last-Event-ID") for request in script.requests[1:]]
    assert resumed == [None, "2", "2", "2"]
    assert len(clock.sleeps) == 3


def test_the_server_may_say_how_long_to_stay_away(client, script, clock):
    _running(script)
    script.then(Reply(pieces=[b"retry: 9000\n\n"]), Reply(pieces=[sse(("completed", job("succeeded")))]))
    list(client.jobs.get(JOB_ID).stream())
    assert clock.sleeps == [9.0]


def test_a_stream_that_is_cut_often_but_gets_on_is_never_given_up(client, script):
    _running(script)
    cuts = [Reply(pieces=[sse(("progress", {"fraction": n / 20}), start=n)]) for n in range(1, 20)]
    script.then(*cuts, Reply(pieces=[sse(("completed", job("succeeded")), start=20)]))
    seen = list(client.jobs.get(JOB_ID).stream())
    assert [event.id for event in seen] == [str(n) for n in range(1, 21)]


def test_a_server_that_stays_away_is_given_up(client, script):
    _running(script)
    script.then(*[Reply(pieces=[])] * 13)
    with pytest.raises(APIConnectionError, match="ended before the job"):
        list(client.jobs.get(JOB_ID).stream())
    assert not script.replies


def test_a_204_says_that_there_is_nothing_more(client, script):
    _running(script)
    script.then(Reply(204), Reply(body=job("succeeded")))
    found = client.jobs.get(JOB_ID)
    assert list(found.stream()) == []
    assert found.done


def test_an_error_that_stays_is_raised_at_once(client, script, clock):
    _running(script)
    script.then(problem(404, "not_found"))
    with pytest.raises(NotFoundError):
        list(client.jobs.get(JOB_ID).stream())
    assert clock.sleeps == []


def test_leaving_early_and_asking_meanwhile_is_fine(client, script):
    _running(script)
    endless = threading.Event()

    def pieces():
        yield sse(("status", {}))
        endless.wait(10)

    script.then(Reply(pieces=pieces()), Reply(body=job("running")), Reply(body=job("running")))
    for _ in client.jobs.get(JOB_ID).stream():
        client.jobs.get(JOB_ID)
        break
    client.jobs.get(JOB_ID)
    endless.set()
