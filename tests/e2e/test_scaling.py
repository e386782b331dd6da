"""The stack scales itself: from nothing to as many workers as a burst needs, and back to nothing."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from app.embedded.state import StateDir
from app.embedded.supervisor import Supervisor
from tests.support import models
from tests.support.client import Caller
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until

pytestmark = pytest.mark.timeout(120)

POOLS = """
[pools.burst]
queues = ["cpu.interactive"]
purchase = "spot"
price_per_hour = 0.5
max = 3
target_s = 1
cooldown_s = 1
"""
QUICK = {"HEADRACE_SCALING_TICK_S": "0.3", "HEADRACE_WORKER_HEARTBEAT_S": "0.5"}


def test_from_nothing_to_many_and_back_unattended(
    make_stack: Callable[..., RunningStack], tmp_path: Path
) -> None:
    (tmp_path / "pools.toml").write_text(POOLS)
    stack = make_stack(
        environ={**QUICK, "HEADRACE_POOLS_FILE": str(tmp_path / "pools.toml")},
        models=[f"{models.__file__}:Slow"],
    )

    supervisor = Supervisor(StateDir(stack.state_dir))

    def machines(*states: str) -> list[str]:
        found = [item for item in supervisor.processes() if item.name.startswith("worker-burst-")]
        return [item.name for item in found if item.state in states]

    def pool() -> dict[str, Any]:
        done = stack.headracectl("pools", "--json")
        assert done.returncode == 0, done.stderr
        (row,) = json.loads(done.stdout)
        return dict(row)

    assert not machines("RUNNING", "STARTING"), "nothing to do, so nothing runs"
    caller, ids, most = Caller(stack), [], 0

    def several_work() -> bool:
        """Goes on with the burst until more than one machine has done some of it."""
        nonlocal most
        most = max(most, len(machines("STARTING", "RUNNING")))
        ended, workers = counts()
        if len(ids) - ended < 40:
            ids.append(caller.submit("slow", {"value": 0.1}))
        return workers > 1

    with psycopg.connect(stack.database_url, autocommit=True) as connection:

        def counts() -> tuple[int, int]:
            row = connection.execute(
                "SELECT count(*) FILTER (WHERE outcome = 'succeeded'), count(DISTINCT worker_id)"
                "  FROM job_attempts"
            ).fetchone()
            assert row is not None
            return row

        wait_until(several_work, 60, "several machines to work")
        assert pool()["cost_per_hour"] >= 1.0
        wait_until(lambda: counts()[0] == len(ids), 60, "all jobs to succeed")
        wait_until(lambda: not machines("RUNNING", "STARTING", "STOPPING"), 40, "no machine to be left")
        outcomes = connection.execute("SELECT DISTINCT outcome FROM job_attempts").fetchall()
    assert 1 < most <= 3
    assert (pool()["desired"], pool()["running"]) == (0, 0)
    # No lease died: what a draining machine had not begun was given back, and all else ended.
    assert {outcome for (outcome,) in outcomes} <= {"succeeded", "released"}
    assert stack.headracectl("doctor").returncode == 0
