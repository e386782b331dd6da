"""The ledger that judges chaos must be able to convict: one test for each crime."""

import time
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from headrace import webhooks

from app.domain.signature import new_secret
from tests.support.ledger import Ledger
from tests.support.receiver import Received

SECRET = new_secret()
JOB: dict[str, Any] = {"id": "job_1", "status": "succeeded", "output": 1, "attempts": None}
OTHER = JOB | {"id": "job_2"}


@pytest.fixture
def ledger() -> Ledger:
    made = Ledger({"/a": SECRET, "/b": SECRET})
    made.accepted("job_1", "/a")
    return made


def webhook(data: dict[str, Any], id: str = "dlv_1", type: str = "job.completed", **extra: Any) -> Received:
    """As it comes to `/a`, unless `path` says otherwise."""
    body = {"type": type, "timestamp": "2026-01-31T12:00:00Z", "data": data | {"attempts": [{}]}}
    payload = orjson.dumps(body | extra.pop("body", {}))
    now = int(time.time())
    headers = {
        "webhook-id": id,
        "webhook-timestamp": str(now),
        "webhook-signature": webhooks.sign(id, now, payload, extra.pop("secret", SECRET)),
    }
    return Received(extra.pop("path", "/a"), headers, payload, 0.0)


def test_what_went_well_is_no_violation(ledger: Ledger) -> None:
    ledger.accepted("job_2", "/a", must_end=False)
    assert ledger.open() == ["job_1"]
    assert ledger.told(webhook(JOB)) == 204
    assert ledger.told(webhook(JOB)) == 204
    assert ledger.open() == []
    assert ledger.promised() == 2
    assert ledger.judge([JOB, OTHER | {"status": "queued"}]) == []


Crime = Callable[[Ledger], object]


@pytest.mark.parametrize(
    ("crime", "jobs", "said"),
    [
        (lambda it: it.open(), [], ["job_1 got a 202 and is lost"]),
        (lambda it: it.open(), [JOB], ["job_1 ended and /a was not told"]),
        (lambda it: it.open(), [JOB | {"status": "queued"}], ["job_1 is queued and should have ended"]),
        (
            lambda it: it.told(webhook(JOB)),
            [JOB | {"status": "running"}],
            [
                "job_1 is running and should have ended",
                "/a on job_1: was told of an end, and it is running",
                "/a on job_1: not as GET shows it: status",
            ],
        ),
        (
            lambda it: it.told(webhook(JOB | {"output": 2})),
            [JOB],
            ["/a on job_1: not as GET shows it: output"],
        ),
        (
            lambda it: (it.told(webhook(JOB)), it.told(webhook(JOB, id="dlv_2"))),
            [JOB],
            ["/a on job_1: one event under 2 webhook-ids"],
        ),
        (
            lambda it: (it.told(webhook(JOB)), it.told(webhook(JOB, body={"again": True}))),
            [JOB],
            ["/a on job_1: one event with different bodies"],
        ),
        (
            lambda it: (it.told(webhook(JOB)), it.told(webhook(JOB, path="/b"))),
            [JOB],
            ["/b on job_1: did not ask for it", "dlv_1 stands for 2 events"],
        ),
        (
            lambda it: (it.told(webhook(JOB)), it.told(webhook(OTHER, id="dlv_2"))),
            [JOB, OTHER],
            ["job_2 exists and nobody got a 202 for it", "/a on job_2: an unknown job"],
        ),
        (
            lambda it: (it.told(webhook(JOB)), it.accepted("job_1", "/a")),
            [JOB],
            ["job_1 was promised to two submits"],
        ),
        (
            lambda it: (it.told(webhook(JOB)), it.told(webhook(JOB, type="job.started"))),
            [JOB],
            ["/a was told of job.started, which nobody asked for"],
        ),
    ],
)
def test_a_crime_is_a_violation(
    ledger: Ledger, crime: Crime, jobs: list[dict[str, Any]], said: list[str]
) -> None:
    crime(ledger)
    assert ledger.judge(jobs) == said


def test_what_does_not_verify_is_a_violation_and_counts_for_nothing(ledger: Ledger) -> None:
    assert ledger.told(webhook(JOB, secret=new_secret())) == 400
    wrong, untold = ledger.judge([JOB])
    assert wrong.startswith("/a got what it can't verify")
    assert untold == "job_1 ended and /a was not told"
