"""GET /v1/jobs/{id}/events: order, resuming, silence."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson
import pytest
from werkzeug.test import TestResponse

from app.api import job_events
from app.db import progress
from app.domain.states import JobStatus
from tests.integration.api.client import Api, HandWorker, uuid_of


@dataclass
class Stream:
    """An open stream, read event by event."""

    answer: TestResponse
    chunks: Iterator[bytes]

    def next(self) -> tuple[str, str, dict[str, Any]]:
        """The next event: its id, kind and data. Comments and `retry` are passed over."""
        for chunk in self.chunks:
            fields = dict(
                line.split(": ", 1) for line in chunk.decode().strip().split("\n") if line[0] != ":"
            )
            if "event" in fields:
                return fields["id"], fields["event"], orjson.loads(fields["data"])
        raise EOFError

    def rest(self) -> list[tuple[str, str]]:
        """The kinds and ids of all that comes until the end."""
        found = []
        try:
            while True:
                event_id, kind, _ = self.next()
                found.append((kind, event_id))
        except EOFError:
            return found


def follow(api: Api, job: dict[str, Any], last_event_id: str | None = None) -> Stream:
    headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
    answer = api.get(f"/v1/jobs/{job['id']}/events", headers=headers, buffered=False)
    assert answer.status_code == 200, answer.text
    assert answer.mimetype == "text/event-stream"
    return Stream(answer, iter(answer.response))


def changed(api: Api, job: dict[str, Any]) -> None:
    """What a worker says after it wrote."""
    api.app.extensions["headrace"].wakeups.announce([uuid_of(job)])


def test_a_jobs_life_in_order(api: Api, worker: HandWorker) -> None:
    job = api.submit({"text": "hi"})
    stream = follow(api, job)
    _, kind, data = stream.next()
    assert (kind, data["status"], data["status_reason"]) == ("status", "queued", "waiting_for_worker")
    (claimed,) = worker.claim()
    changed(api, job)
    _, kind, data = stream.next()
    assert (kind, data["status"]) == ("status", "running")
    for fraction, message in ((0.25, "a"), (0.75, "b")):
        progress.report(api.queue.engine, claimed.id, claimed.epoch, fraction, message)
        changed(api, job)
        _, kind, data = stream.next()
        assert (kind, data["fraction"], data["message"]) == ("progress", fraction, message)
    worker.settle(claimed)
    changed(api, job)
    _, kind, data = stream.next()
    assert (kind, data["status"]) == ("status", "succeeded")
    event_id, kind, data = stream.next()
    assert (event_id, kind) == ("end", "completed")
    assert data == api.get(f"/v1/jobs/{job['id']}").json
    assert stream.rest() == []


def test_a_job_that_goes_round_again_shows_each_turn(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    stream = follow(api, job)
    seen = [stream.next()[2]["status_reason"]]
    (claimed,) = worker.claim()
    changed(api, job)
    seen.append(stream.next()[2]["status"])
    worker.settle(claimed, JobStatus.QUEUED, delay_s=60.0, reason="retry_backoff", output=None)
    changed(api, job)
    seen.append(stream.next()[2]["status_reason"])
    assert seen == ["waiting_for_worker", "running", "retry_backoff"]
    stream.answer.close()


def test_a_finished_job_has_its_status_and_its_end(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    worker.work(JobStatus.FAILED)
    stream = follow(api, job)
    assert [kind for kind, _ in stream.rest()] == ["status", "completed"]


def test_who_comes_back_gets_only_news(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    (claimed,) = worker.claim()
    progress.report(api.queue.engine, claimed.id, claimed.epoch, 0.5, None)
    stream = follow(api, job)
    running, _, _ = stream.next()
    half, kind, _ = stream.next()
    assert kind == "progress"
    stream.answer.close()

    after_status = follow(api, job, running)
    assert after_status.next()[:2] == (half, "progress")
    after_status.answer.close()

    worker.settle(claimed)
    resumed = follow(api, job, half)
    assert [kind for kind, _ in resumed.rest()] == ["status", "completed"]
    from_the_last_status = follow(api, job, follow(api, job).next()[0])
    assert [kind for kind, _ in from_the_last_status.rest()] == ["completed"]


def test_after_the_end_there_is_nothing(api: Api, worker: HandWorker) -> None:
    job = api.submit()
    worker.work()
    answer = api.get(f"/v1/jobs/{job['id']}/events", headers={"Last-Event-ID": "end"})
    assert (answer.status_code, answer.data) == (204, b"")


@pytest.mark.parametrize("last", ["", "end", "x", ".", "'; --", "a" * 5000, "é"])
def test_an_id_that_is_none_of_ours_starts_anew(api: Api, last: str) -> None:
    job = api.submit()
    stream = follow(api, job, last)
    assert stream.next()[1] == "status"
    stream.answer.close()


def test_a_comment_breaks_the_silence(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job_events, "SILENCE_S", 0.05)
    job = api.submit()
    stream = follow(api, job)
    stream.next()
    assert next(stream.chunks).startswith(b":")
    assert next(stream.chunks).startswith(b":")
    stream.answer.close()


def test_the_silence_is_15_seconds() -> None:
    assert job_events.SILENCE_S == 15


def test_a_stream_ends_in_time_so_that_its_key_is_checked_anew(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job_events, "LONGEST_S", 0.1)
    stream = follow(api, api.submit())
    assert [kind for kind, _ in stream.rest()] == ["status"]


def test_a_stream_that_is_closed_leaves_no_waiter(api: Api) -> None:
    job = api.submit()
    stream = follow(api, job)
    wakeups = api.app.extensions["headrace"].wakeups
    assert wakeups.waiting == 1
    stream.answer.close()
    assert wakeups.waiting == 0
    head = api.request("HEAD", f"/v1/jobs/{job['id']}/events")
    assert (head.status_code, wakeups.waiting) == (200, 0)


def test_an_output_of_many_lines_is_one_line_of_data(api: Api, worker: HandWorker) -> None:
    text = "a\nb\r\nc\u2028d\x85"
    job = api.submit({"text": text})
    worker.work()
    stream = follow(api, job)
    stream.next()
    assert stream.next()[2]["output"] == {"text": text}
