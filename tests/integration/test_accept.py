"""accept: job, key and place in one transaction; many requests with one key make one job."""

import random
import time
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from sqlalchemy import text
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
    written = b'{"a":"\\u0000","n":0.10000000000000001,"z":1,"b":[1e400]}'
    job = a_job(queue, input=written)
    accept.accept(queue.engine, job, None)
    stored = queue.execute("SELECT input::text FROM jobs WHERE id = :id", id=job.id)[0][0]
    assert stored == written.decode()


def test_many_are_written_as_each_alone_would_be_and_queue_in_their_order(queue: Queue) -> None:
    def wanted(number: int) -> QueuedJob:
        return a_job(
            queue,
            input=b'{"a":"\\u0000 \\"quoted\\", {braced}","n":0.10000000000000001,"i":%d}' % number,
            webhook="https://example.com/a,b" if number % 2 else None,
            webhook_events=("started", "completed"),
            metadata={"k": 'v"', "number": str(number)},
            use_case=None if number % 3 else "search, and more",
            retry_of=new_uuid() if number == 4 else None,
            queue_ttl_s=60.0 + number,
            retry=RetryPolicy(number + 1, 10, 20),
        )

    def stored(job: QueuedJob) -> list[object]:
        columns = (
            "tenant_id, version_id, lane, priority, input::text, input_hash, expires_at - created_at,"
            " execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms, webhook, webhook_events,"
            " use_case, metadata, batch_id, custom_id"
        )
        return list(queue.execute(f"SELECT {columns} FROM jobs WHERE id = :id", id=job.id)[0])

    alone, together = [wanted(n) for n in range(6)], [wanted(n) for n in range(6)]
    for job in alone:
        accept.accept(queue.engine, job, None)
    accept.accept_many(queue.engine, together)
    assert [stored(job) for job in together] == [stored(job) for job in alone]
    assert queue.get(together[4].id).retry_of == together[4].retry_of
    claimed = [job.id for job in queue.claim(queue.worker())]
    assert claimed == [job.id for job in (*alone, *together)]
    assert not conservation.check(queue.engine).violations


def test_of_many_one_that_is_refused_leaves_none(queue: Queue) -> None:
    with pytest.raises(DBAPIError):
        accept.accept_many(queue.engine, [a_job(queue), a_job(queue, input=b"not json"), a_job(queue)])
    assert conservation.check(queue.engine).counts["jobs"] == 0


def test_a_group_is_written_but_for_those_whose_key_was_used(queue: Queue) -> None:
    before = a_job(queue)
    accept.accept(queue.engine, before, key("used"))
    late, first, second, free = (a_job(queue) for _ in range(4))
    group = [(late, key("used")), (first, key("new")), (second, key("new")), (free, None)]
    written = accept.accept_group(queue.engine, group)
    # Which one of two with one key comes first is nobody's promise.
    (winner,) = {first.id, second.id} & set(written)
    assert set(written) == {winner, free.id}
    assert accept.accept(queue.engine, late, key("used")) == Repeated(before.id, same=True)
    assert accept.accept(queue.engine, a_job(queue), key("new")) == Repeated(winner, same=True)
    assert conservation.check(queue.engine).counts["jobs"] == 3


def test_a_group_with_a_refused_row_is_not_written_at_all(queue: Queue) -> None:
    group = [(a_job(queue), None), (a_job(queue, input=b"not json"), key("k")), (a_job(queue), None)]
    assert accept.accept_group(queue.engine, group) == {}
    assert conservation.check(queue.engine).counts["jobs"] == 0
    assert queue.execute("SELECT count(*) FROM idempotency_keys")[0][0] == 0


def test_a_group_does_not_wait_for_a_key_that_another_request_holds(queue: Queue) -> None:
    usual = queue.execute("SHOW lock_timeout")
    with queue.engine.connect().execution_options(isolation_level="READ COMMITTED") as other:
        other.execute(
            text(
                "INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id)"
                " VALUES (:tenant_id, 'jobs', 'held', '', gen_random_uuid())"
            ),
            {"tenant_id": queue.tenant_id},
        )
        began = time.monotonic()
        assert accept.accept_group(queue.engine, [(a_job(queue), key("held")), (a_job(queue), None)]) == {}
        assert time.monotonic() - began < 2.0
        other.rollback()
    assert queue.execute("SHOW lock_timeout") == usual
    assert isinstance(accept.accept(queue.engine, a_job(queue), key("held")), Accepted)


def test_groups_with_the_same_keys_in_any_order_make_one_job_a_key(queue: Queue) -> None:
    def race(number: int) -> set[UUID]:
        names = [f"k{n}" for n in range(8)]
        random.Random(number).shuffle(names)
        group = [(a_job(queue), key(name)) for name in names]
        written = set(accept.accept_group(queue.engine, group))
        for job, once in group:
            if job.id not in written and isinstance(accept.accept(queue.engine, job, once), Accepted):
                written.add(job.id)
        return written

    with ThreadPoolExecutor(5) as pool:
        written = [job_id for ids in pool.map(race, range(20)) for job_id in ids]
    assert len(written) == len(set(written)) == 8
    assert conservation.check(queue.engine).counts["jobs"] == 8
