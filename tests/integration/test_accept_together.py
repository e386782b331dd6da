"""Requests that arrive together are one statement and one ring, and each gets its own answer."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError

from app.broker.ring import Ringer
from app.db import accept, conservation
from app.db.accept import IdempotencyKey
from app.db.engine import Engine, make_engine
from app.domain.stages import QueuedJob
from app.errors import Unavailable
from app.intake.accept import Fresh, Intake, Prepared, Replayed
from app.intake.catalogue import Catalogue
from tests.integration.test_accept import a_job, key
from tests.support.jobs import Queue
from tests.support.waiting import wait_until

Requests = Sequence[tuple[QueuedJob, IdempotencyKey | None]]
Submit = Callable[[Intake, Requests], "list[Future[Fresh | Replayed]]"]


def an_intake(engine: Engine, redis_url: str) -> Intake:
    return Intake(engine, Catalogue(engine, 2.0, time.monotonic), Ringer(SecretStr(redis_url)))


@pytest.fixture
def together(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> Iterator[Submit]:
    """Submit a job, and the others while it is being written: so they are one group."""
    written, groups, go = accept.accept_group, [], threading.Event()

    def held(engine: Engine, jobs: Requests, turns: Any) -> Any:
        groups.append(len(jobs))
        assert go.wait(10)
        return written(engine, jobs, turns)

    monkeypatch.setattr(accept, "accept_group", held)

    def submit(intake: Intake, requests: Requests) -> "list[Future[Fresh | Replayed]]":
        futures = []
        for number, (job, once) in enumerate(requests):
            futures.append(pool.submit(intake.write, Prepared(job, queue.echo), once))
            wait_until(lambda n=number: groups and intake.waiting == n, 5, "the request to wait")  # type: ignore[misc]
        go.set()
        return futures

    with ThreadPoolExecutor(16) as pool:
        yield submit
    assert len(groups) == 2


def test_a_bad_row_fails_alone(queue: Queue, redis_url: str, together: Submit) -> None:
    jobs = [a_job(queue), a_job(queue), a_job(queue, input=b"not json"), a_job(queue)]
    futures = together(an_intake(queue.engine, redis_url), [(job, None) for job in jobs])
    for number in (0, 1, 3):
        fresh = futures[number].result(10)
        assert isinstance(fresh, Fresh)
        assert fresh.job.id == jobs[number].id
    with pytest.raises(DBAPIError):
        futures[2].result(10)
    assert {job.id for job in queue.claim(queue.worker())} == {jobs[n].id for n in (0, 1, 3)}
    assert not conservation.check(queue.engine).violations


def test_requests_with_one_key_in_one_group_get_one_job(
    queue: Queue, redis_url: str, together: Submit
) -> None:
    requests = [(a_job(queue), None), *((a_job(queue), key("k")) for _ in range(5))]
    _, *answers = [future.result(10) for future in together(an_intake(queue.engine, redis_url), requests)]
    made = [answer.job.id for answer in answers if isinstance(answer, Fresh)]
    assert [answer.row.id for answer in answers if isinstance(answer, Replayed)] == made * 4
    assert conservation.check(queue.engine).counts["jobs"] == 2


def test_a_group_rings_once_and_a_job_of_it_never_without_a_ring(
    queue: Queue, redis_url: str, together: Submit
) -> None:
    ringer = Ringer(SecretStr(redis_url))
    for future in together(an_intake(queue.engine, redis_url), [(a_job(queue), None) for _ in range(9)]):
        future.result(10)
    assert ringer.waiting("cpu.interactive") == 1
    assert ringer.rung("cpu.interactive")


def test_without_postgres_each_is_told_so(queue: Queue, redis_url: str, together: Submit) -> None:
    nowhere = make_engine(SecretStr("postgresql://nobody@127.0.0.1:1/none"))
    for future in together(an_intake(nowhere, redis_url), [(a_job(queue), None) for _ in range(6)]):
        with pytest.raises(Unavailable):
            future.result(10)
    nowhere.dispose()
