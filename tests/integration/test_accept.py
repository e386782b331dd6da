"""accept: job, key and place in one transaction; many requests with one key make one job."""

from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError

from app.db import accept, conservation
from app.db.accept import Accepted, IdempotencyKey, Repeated
from app.domain.ids import new_uuid
from app.domain.lanes import Device, Lane, Priority
from app.domain.retry import RetryPolicy
from app.domain.stages import QueuedJob
from tests.support.jobs import Queue


def a_job(queue: Queue, **changes: object) -> QueuedJob:
    fields: dict[str, object] = {
        "id": new_uuid(),
        "tenant_id": queue.tenant_id,
        "version_id": queue.echo.id,
        "model": "echo",
        "version": "1",
        "device": Device.CPU,
        "lane": Lane.INTERACTIVE,
        "priority": Priority.NORMAL,
        "input": b"{}",
        "input_hash": b"h",
        "queue_ttl_s": 60.0,
        "execution_timeout_s": 60.0,
        "retry": RetryPolicy(),
    }
    return QueuedJob(**{**fields, **changes})  # type: ignore[arg-type]


def key(name: str, fingerprint: bytes = b"f", endpoint: str = "jobs") -> IdempotencyKey:
    return IdempotencyKey(endpoint, name, fingerprint)


def test_the_same_key_finds_the_first_job_and_tells_another_body(queue: Queue) -> None:
    first = a_job(queue)
    assert isinstance(accept.accept(queue.engine, first, key("k")), Accepted)
    assert accept.accept(queue.engine, a_job(queue), key("k")) == Repeated(first.id, same=True)
    assert accept.accept(queue.engine, a_job(queue), key("k", b"other")) == Repeated(first.id, same=False)
    assert conservation.check(queue.engine).counts["jobs"] == 1


def test_keys_of_other_endpoints_and_tenants_are_other_keys(queue: Queue) -> None:
    assert isinstance(accept.accept(queue.engine, a_job(queue), key("k")), Accepted)
    assert isinstance(accept.accept(queue.engine, a_job(queue), key("k", endpoint="files")), Accepted)
    assert isinstance(accept.accept(queue.engine, a_job(queue, tenant_id=99), key("k")), Accepted)


def test_a_race_on_one_key_makes_one_job(queue: Queue) -> None:
    def race(_: int) -> UUID:
        job = a_job(queue)
        answer = accept.accept(queue.engine, job, key("raced"))
        return job.id if isinstance(answer, Accepted) else answer.resource_id

    with ThreadPoolExecutor(16) as pool:
        ids = set(pool.map(race, range(100)))
    assert len(ids) == 1
    assert conservation.check(queue.engine).counts == {
        "jobs": 1,
        "ready": 1,
        "deferred": 0,
        "leased": 0,
        "results": 0,
    }


def test_a_refused_row_leaves_nothing_behind(queue: Queue) -> None:
    with pytest.raises(DBAPIError):
        accept.accept(queue.engine, a_job(queue, input=b"not json"), key("k"))
    assert conservation.check(queue.engine).counts["jobs"] == 0
    assert queue.execute("SELECT count(*) FROM idempotency_keys")[0][0] == 0


def test_inputs_come_back_to_the_letter(queue: Queue) -> None:
    text = b'{"a":"\\u0000","n":0.10000000000000001,"z":1,"b":[1e400]}'
    job = a_job(queue, input=text)
    accept.accept(queue.engine, job, None)
    stored = queue.execute("SELECT input::text FROM jobs WHERE id = :id", id=job.id)[0][0]
    assert stored == text.decode()
