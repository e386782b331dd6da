"""What scaling reads and writes: speeds that forget, the backlog in work-seconds, machines, their leases."""

import pytest
from sqlalchemy.exc import DBAPIError

from app.db import pools, speeds
from app.db.pools import PoolState
from app.domain.cost import Work
from app.domain.lanes import Lane
from tests.support.crew import make_child, register
from tests.support.jobs import Queue
from workers.pipeline import drain


def test_the_backlog_is_what_waits_and_runs_at_the_speed_that_was_measured(queue: Queue) -> None:
    speeds.note(queue.engine, "a", {queue.echo.id: Work(jobs=10, units=40, seconds=5.0)})
    for ttl_s in (100.0, 3600.0, 3600.0):
        queue.submit(lane=Lane.BATCH, queue_ttl_s=ttl_s)
    queue.submit()
    queue.claim(queue.worker(), window=1)
    found = pools.backlogs(queue.engine)
    assert set(found) == {"cpu.batch", "cpu.interactive"}
    batch, interactive = found["cpu.batch"], found["cpu.interactive"]
    assert (batch.jobs, batch.leased, batch.unmeasured, batch.work_s) == (3, 0, 0, pytest.approx(1.5))
    assert (interactive.jobs, interactive.leased, interactive.work_s) == (1, 1, pytest.approx(0.5))
    soon, late = sorted(batch.due, key=lambda due: due.within_s)
    assert soon.work_s == pytest.approx(0.5)
    assert 90 < soon.within_s <= 100
    assert late.work_s == pytest.approx(1.0)
    assert 3500 < late.within_s <= 3600


def test_jobs_of_a_version_that_nobody_measured_are_counted_apart(queue: Queue) -> None:
    queue.submit()
    backlog = pools.backlogs(queue.engine)["cpu.interactive"]
    assert (backlog.jobs, backlog.unmeasured, backlog.work_s, backlog.due) == (1, 1, 0, ())


def test_speeds_of_pools_are_one_and_the_latest_work_counts_most(queue: Queue) -> None:
    for _ in range(20):
        speeds.note(queue.engine, "a", {queue.echo.id: Work(100, 100, 300.0)})
    for _ in range(20):
        speeds.note(queue.engine, "a", {queue.echo.id: Work(300, 300, 300.0)})
    queue.submit()
    assert pools.backlogs(queue.engine)["cpu.interactive"].work_s == pytest.approx(1.0, rel=0.01)


def test_a_child_that_worked_says_how_fast_with_its_heartbeat(queue: Queue, redis_url: str) -> None:
    database_url = queue.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    child = make_child(database_url, redis_url)
    version = register(queue, "Double")
    for number in range(3):
        queue.submit({"value": number}, version=version)
        drain(child, version, Lane.INTERACTIVE)
    child.heartbeat()
    child.heartbeat()
    ((jobs, seconds),) = queue.execute("SELECT jobs, seconds FROM version_speeds")
    # The first micro-batch is a warm-up.
    assert jobs == 2
    assert 0 < seconds < 5
    child.stop()


def test_machines_are_their_live_children_and_the_leases_of_all_of_them(queue: Queue) -> None:
    first = queue.worker(pool="a", machine="a-1")
    queue.worker(pool="a", machine="a-1")
    queue.worker(pool="a", machine="a-2")
    queue.worker(pool="b", machine="b-1")
    queue.submit()
    queue.claim(first)
    found = {machine.id: machine for machine in pools.machines(queue.engine, ["a"])}
    assert {id: (one.leases, one.draining) for id, one in found.items()} == {
        "a-1": (1, False),
        "a-2": (0, False),
    }


def test_a_machine_that_is_told_to_drain_claims_nothing_more(queue: Queue) -> None:
    worker = queue.worker(pool="a", machine="a-1")
    pools.drain(queue.engine, "a", ["a-1"])
    queue.submit()
    assert queue.claim(worker) == []
    assert [machine.draining for machine in pools.machines(queue.engine, ["a"])] == [True]


def test_an_autoscaler_is_told_what_must_stay_and_nothing_that_is_old(queue: Queue) -> None:
    pools.note(queue.engine, PoolState("a", 3, "backlog", running=5, starting=0, draining=2, backlog_s=9.0))
    assert queue.execute("SELECT headrace_desired('a')") == [(5,)]
    queue.execute("UPDATE pool_states SET decided_at = now() - interval '2 minutes'")
    for name in ("a", "b"):
        with pytest.raises(DBAPIError, match="no scaler has decided on the pool"):
            queue.execute("SELECT headrace_desired(:name)", name=name)
    assert not pools.states(queue.engine)["a"].fresh
