"""Processes die, stop and come back; jobs end exactly once."""

import os
import signal
from collections.abc import Callable

import psycopg
import pytest
import redis

from tests.support.client import Caller
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(300)


def results_and_attempts(stack: RunningStack) -> tuple[int, int]:
    with psycopg.connect(stack.database_url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM job_results),"
            "       (SELECT count(*) FROM job_attempts WHERE outcome = 'succeeded')"
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def test_killing_a_worker_and_its_child_loses_none_of_64_jobs(make_stack: Callable[..., RunningStack]) -> None:
    stack = make_stack(workers=["solo:cpu.interactive:1"])
    caller = Caller(stack)
    # Keeps the only slot busy until all 64 are there, so that they are claimed as one batch.
    first = caller.submit("echo", {"sleep_ms": 1500})
    ids = [caller.submit("echo", {"n": n, "sleep_ms": 60}) for n in range(64)]
    caller.wait(first)
    wait_until(lambda: caller.get(ids[0])["status"] == "running", 30, "the batch to run")
    for process in stack.processes():
        if process["name"].startswith("worker-solo"):
            os.kill(process["pid"], signal.SIGKILL)
    done = [caller.wait(job_id, 45) for job_id in ids]
    assert {job["status"] for job in done} == {"succeeded"}
    assert [job["output"]["n"] for job in done] == list(range(64))
    assert results_and_attempts(stack) == (65, 65)
    assert stack.headracectl("doctor").returncode == 0


def test_the_late_write_of_a_stopped_worker_changes_nothing(make_stack: Callable[..., RunningStack]) -> None:
    quick = {"HEADRACE_WORKER_LEASE_TTL_S": "4", "HEADRACE_WORKER_HEARTBEAT_S": "1"}
    stack = make_stack(environ=quick, workers=["one:cpu.interactive:1"])
    caller = Caller(stack)
    job_id = caller.submit("echo", {"sleep_ms": 3000})
    wait_until(lambda: caller.get(job_id)["status"] == "running", 30, "the job to run")
    stopped = [p["pid"] for p in stack.processes() if p["name"].startswith("worker-one")]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: caller.get(job_id)["status"] == "queued", 30, "the lease to be taken back")
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        # Plays the other worker: claims under a new epoch and settles.
        from tests.support.jobs import Queue, succeeded
        from workers.settle import settle

        queue = Queue.open(stack.database_url)
        heir = queue.worker()
        (claimed,) = queue.claim(heir)
        settle(queue.engine, heir, [succeeded(claimed, b'{"by":"heir"}')])
        queue.engine.dispose()
        assert caller.get(job_id)["output"] == {"by": "heir"}
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)

        def slept_in() -> bool:
            """The zombie finished its prediction and came back under another name."""
            row = connection.execute(
                "SELECT count(*) FROM workers WHERE state = 'ready' AND name LIKE 'one%'"
            ).fetchone()
            return row is not None and row[0] > 0

        wait_until(slept_in, 40, "the stopped worker to start over")
    again = caller.submit("echo", {"n": 1})
    assert caller.wait(again)["status"] == "succeeded"
    assert caller.get(job_id)["output"] == {"by": "heir"}
    assert stack.headracectl("doctor").returncode == 0


def test_redis_may_forget_everything_and_be_away(make_stack: Callable[..., RunningStack]) -> None:
    stack = make_stack(workers=["solo:cpu.interactive:1"])
    caller = Caller(stack)
    caller.wait(caller.submit("echo", {"n": 0}))
    busy = caller.submit("echo", {"sleep_ms": 1000})
    ids = [caller.submit("echo", {"n": n}) for n in range(20)]
    with redis.Redis.from_url(stack.redis_url) as client:
        client.flushall()
    assert {caller.wait(job_id)["status"] for job_id in [busy, *ids]} == {"succeeded"}

    pid = stack.kill("valkey", signal.SIGSTOP)
    try:
        while_away = [caller.submit("echo", {"n": n}) for n in range(5)]
        assert {caller.wait(job_id)["status"] for job_id in while_away} == {"succeeded"}
    finally:
        os.kill(pid, signal.SIGCONT)
    assert caller.wait(caller.submit("echo", {"n": 1}))["status"] == "succeeded"
    assert stack.headracectl("doctor").returncode == 0


def test_a_crash_of_postgres_loses_no_job(make_stack: Callable[..., RunningStack]) -> None:
    stack = make_stack(workers=["solo:cpu.interactive:1"])
    caller = Caller(stack)
    ids = [caller.submit("echo", {"n": n, "sleep_ms": 100}) for n in range(30)]
    wait_until(lambda: caller.get(ids[0])["status"] == "running", 30, "the batch to run")
    stack.kill("postgres")
    stack.wait_ready(60)
    done = [caller.wait(job_id, 90) for job_id in ids]
    assert {job["status"] for job in done} == {"succeeded"}
    assert results_and_attempts(stack)[0] == 30
    assert stack.headracectl("doctor").returncode == 0
