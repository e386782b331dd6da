"""GET /v1/jobs: pages and filters."""

from typing import Any
from urllib.parse import urlencode

import pytest

from app.domain.states import JobStatus
from tests.integration.api.client import Api, HandWorker


def ids(answer: Any) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.json["data"]]


def test_pages_are_newest_first_and_meet_without_gap_or_overlap(api: Api) -> None:
    made = [api.submit({"n": n})["id"] for n in range(7)]
    seen: list[str] = []
    query = "limit=3"
    for expected_more in (True, True, False):
        page = api.get(f"/v1/jobs?{query}").json
        assert page["object"] == "list"
        assert page["has_more"] is expected_more
        assert page["first_id"] == page["data"][0]["id"]
        assert page["last_id"] == page["data"][-1]["id"]
        seen += [job["id"] for job in page["data"]]
        query = f"limit=3&after={page['last_id']}"
    assert seen == made[::-1]


def test_a_page_is_stable_while_jobs_arrive(api: Api) -> None:
    made = [api.submit()["id"] for _ in range(4)]
    first = api.get("/v1/jobs?limit=2").json
    api.submit()
    assert ids(api.get(f"/v1/jobs?limit=2&after={first['last_id']}")) == [made[1], made[0]]


def test_an_empty_list(api: Api) -> None:
    assert api.get("/v1/jobs").json == {
        "object": "list",
        "data": [],
        "first_id": None,
        "last_id": None,
        "has_more": False,
    }


def test_a_listed_job_is_the_job_without_attempts(api: Api, worker: HandWorker) -> None:
    job = api.submit({"text": "hi"}, metadata={"k": "v"})
    worker.work()
    (listed,) = api.get("/v1/jobs").json["data"]
    assert listed == api.get(f"/v1/jobs/{job['id']}").json | {"attempts": None}


def test_every_status_can_be_asked_for(api: Api, worker: HandWorker) -> None:
    made: dict[str, str] = {}
    made["succeeded"] = api.submit()["id"]
    worker.work()
    made["failed"] = api.submit()["id"]
    worker.work(JobStatus.FAILED)
    made["canceled"] = api.submit()["id"]
    api.post(f"/v1/jobs/{made['canceled']}/cancel")
    made["running"] = api.submit()["id"]
    worker.claim()
    made["queued"] = api.submit()["id"]
    for status, job_id in made.items():
        assert ids(api.get(f"/v1/jobs?status={status}")) == [job_id]
    assert ids(api.get("/v1/jobs?status=expired")) == []


def test_filters_narrow_together(api: Api) -> None:
    echo = [api.submit({}, metadata={"team": team, "n": str(n)})["id"] for n, team in enumerate("aab")]
    strict = api.post("/v1/jobs", json={"model": "strict", "input": {"text": "x"}}).json
    assert ids(api.get("/v1/jobs?model=strict")) == [strict["id"]]
    assert ids(api.get("/v1/jobs?model=strict@1")) == [strict["id"]]
    assert ids(api.get("/v1/jobs?model=strict@2")) == []
    assert ids(api.get("/v1/jobs?metadata[team]=a")) == [echo[1], echo[0]]
    assert ids(api.get("/v1/jobs?metadata[team]=a&metadata[n]=1&model=echo")) == [echo[1]]
    assert ids(api.get("/v1/jobs?metadata%5Bteam%5D=b")) == [echo[2]]
    assert ids(api.get("/v1/jobs?metadata[team]=c")) == []


def test_filters_by_time_leave_the_bounds_out(api: Api) -> None:
    first, second, third = (api.submit() for _ in range(3))
    between = urlencode({"created_after": first["created_at"], "created_before": third["created_at"]})
    assert ids(api.get(f"/v1/jobs?{between}")) == [second["id"]]
    assert len(ids(api.get("/v1/jobs?created_after=2020-01-01T00:00:00%2B02:00"))) == 3
    assert len(ids(api.get("/v1/jobs?created_after=2020-01-01T00:00:00+02:00"))) == 3
    assert ids(api.get("/v1/jobs?created_after=9999-12-31T23:59:59Z")) == []
    assert len(ids(api.get("/v1/jobs?created_after=0001-01-01T00:00:00Z"))) == 3


@pytest.mark.parametrize(
    "query",
    [
        "limit=0",
        "limit=101",
        "limit=-1",
        "limit=x",
        "limit=",
        "limit=1.0",
        "limit=%D9%A1",
        "limit=1&limit=2",
        "status=done",
        "status=",
        "model=",
        "model=%00",
        "created_after=yesterday",
        "created_after=2020-01-01T00:00:00",
        "created_after=0001-01-01T00:00:00%2B23:59",
        "created_before=",
        "metadata[k]=%00",
        "metadata[k%00]=x",
        "metadata=x",
        "metadata[]=x",
        "state=queued",
        "before=job_x",
        "metadata[" + "k" * 65 + "]=x",
        "&".join(f"metadata[{n}]=x" for n in range(17)),
    ],
)
def test_a_parameter_that_is_wrong_is_named(reader: Api, query: str) -> None:
    answer = reader.get(f"/v1/jobs?{query}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_request"), answer.text
    assert answer.json["errors"][0]["pointer"].startswith("/query/")


@pytest.mark.parametrize("cursor", ["x", "", "job_", "batch_" + "0" * 32, "%00", "job_" + "0" * 33])
def test_a_cursor_that_is_none(reader: Api, cursor: str) -> None:
    answer = reader.get(f"/v1/jobs?after={cursor}")
    assert (answer.status_code, answer.json["code"]) == (422, "invalid_cursor")


@pytest.mark.parametrize(
    "query", ["metadata[k]=%ff", "metadata[k]=%ED%A0%80", "metadata[%ff]=x", "model=%ff"]
)
def test_a_filter_in_no_encoding_matches_nothing(api: Api, query: str) -> None:
    api.submit()
    assert ids(api.get(f"/v1/jobs?{query}")) == []
