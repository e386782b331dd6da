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
target_s = 2
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
    caller = Caller(stack)
    ids = [caller.submit("slow", {"value": 0.2}) for _ in range(50)]
    wait_until(lambda: len(machines("RUNNING")) == 3, 30, "as many machines as there may be")
    assert pool()["cost_per_hour"] == 1.5
    assert {caller.wait(id)["status"] for id in ids} == {"succeeded"}
    wait_until(lambda: not machines("RUNNING", "STARTING", "STOPPING"), 30, "no machine to be left")
    assert (pool()["desired"], pool()["running"]) == (0, 0)
    with psycopg.connect(stack.database_url) as connection:
        outcomes = connection.execute("SELECT outcome, count(*) FROM job_attempts GROUP BY 1").fetchall()
    # No lease died: what a draining machine had not begun was given back.
    assert ("succeeded", 50) in outcomes
    assert {outcome for outcome, *_ in outcomes} <= {"succeeded", "released"}
    assert stack.headracectl("doctor").returncode == 0
