"""Processes die, stop and come back; jobs end exactly once."""

import os
import signal
from collections.abc import Iterator

import psycopg
import pytest
import redis

from tests.support import stacks
from tests.support.client import Caller
from tests.support.jobs import Queue, succeeded
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until
from workers.settle import settle

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that may be broken, with one worker of one slot, and leases that end soon."""
    quick = {"HEADRACE_WORKER_LEASE_TTL_S": "6", "HEADRACE_WORKER_HEARTBEAT_S": "1"}
    state_dir = tmp_path_factory.mktemp("faults") / "state"
    with stacks.stack(state_dir, environ=quick, workers=["solo:cpu.interactive:1"]) as running:
        yield running


@pytest.fixture
def caller(stack: RunningStack) -> Iterator[Caller]:
    """Whatever a test broke, the law holds after it, and every success has one result and one attempt."""
    yield Caller(stack)
    doctor = stack.headracectl("doctor")
    assert doctor.returncode == 0, doctor.stderr
    with psycopg.connect(stack.database_url) as connection:
        row = connection.execute(
            "SELECT (SELECT count(*) FROM job_results WHERE status = 'succeeded'),"
            "       (SELECT count(*) FROM job_attempts WHERE outcome = 'succeeded')"
        ).fetchone()
    assert row is not None
    assert row[0] == row[1]


def test_killing_a_worker_and_its_child_loses_none_of_64_jobs(stack: RunningStack, caller: Caller) -> None:
    # Keeps the only slot busy until all 64 are there, so that they are claimed as one batch.
    first = caller.submit("echo", {"sleep_ms": 600_000}, policy={"execution_timeout_s": 600})
    wait_until(lambda: caller.get(first)["status"] == "running", 30, "the slot to be busy")
    ids = [caller.submit("echo", {"n": n, "sleep_ms": 100}) for n in range(64)]
    stack.request("POST", f"/v1/jobs/{first}/cancel").raise_for_status()
    wait_until(lambda: caller.get(ids[-1])["status"] == "running", 30, "the batch to run")
    for process in stack.processes():
        if process.name.startswith("worker-solo") and process.pid:
            os.kill(process.pid, signal.SIGKILL)
    done = [caller.wait(job_id, 45) for job_id in ids]
    assert {job["status"] for job in done} == {"succeeded"}
    assert [job["output"]["n"] for job in done] == list(range(64))
    assert {job["attempts"][0]["outcome"] for job in done} == {"crashed"}
    assert {job["attempts"][0]["batch_size"] for job in done} == {64}


def test_the_late_write_of_a_stopped_worker_changes_nothing(stack: RunningStack, caller: Caller) -> None:
    job_id = caller.submit("echo", {"sleep_ms": 3000})
    wait_until(lambda: caller.get(job_id)["status"] == "running", 30, "the job to run")
    stopped = [p.pid for p in stack.processes() if p.name.startswith("worker-solo") and p.pid]
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: caller.get(job_id)["status"] == "queued", 30, "the lease to be taken back")
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        # Plays the other worker: claims under a new epoch and settles.
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
                "SELECT count(*) FROM workers WHERE state = 'ready' AND name LIKE 'solo%'"
            ).fetchone()
            return row is not None and row[0] > 0

        wait_until(slept_in, 40, "the stopped worker to start over")
    again = caller.submit("echo", {"n": 1})
    assert caller.wait(again)["status"] == "succeeded"
    assert caller.get(job_id)["output"] == {"by": "heir"}


def test_redis_may_forget_everything_and_be_away(stack: RunningStack, caller: Caller) -> None:
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


def test_a_crash_of_postgres_loses_no_job(stack: RunningStack, caller: Caller) -> None:
    ids = [caller.submit("echo", {"n": n, "sleep_ms": 100}) for n in range(30)]
    # The last one: the first may be claimed alone, and be done before we look.
    wait_until(lambda: caller.get(ids[-1])["status"] == "running", 30, "the batch to run")
    stack.kill("postgres")
    stack.wait_ready(60)
    done = [caller.wait(job_id, 90) for job_id in ids]
    assert {job["status"] for job in done} == {"succeeded"}
