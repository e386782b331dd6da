"""A batch on machines that vanish: with a notice nothing is lost and nothing charged; without one, no more
than the micro-batch that ran.
"""

import io
import json
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from headrace import Client
from pydantic import SecretStr
from sqlalchemy import text

from app.db.engine import Engine, connect, make_engine
from tests.support import counted, stacks
from tests.support.counted import runs
from tests.support.killer import pids
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until
from workers.pipeline import DEAR_S

LONG = "SPOT_LONG" in os.environ
"""The long form kills every 20 seconds for some minutes, and so needs a slower model."""

KILL_EVERY_S = 20.0 if LONG else 1.0
KILLS = 10 if LONG else 3
PACE_S = 1.5 if LONG else 0.08
SLOW_S = 0.4
"""While the notice is given, so that enough is left for the kills however long starting a process takes."""
LINES = 20_000
POOLS = ("spot-a", "spot-b")
MICRO_BATCH = 64

pytestmark = pytest.mark.timeout(900 if LONG else 300)


class Pool:
    """A stack whose batch workers are on machines that may vanish, and what is written down of their work."""

    def __init__(self, stack: RunningStack, notice: Path, file: Path, pace: Path) -> None:
        self.stack = stack
        self.pace = pace
        self.notice = notice
        self.file = file
        self.engine: Engine = make_engine(SecretStr(stack.database_url), pool_size=2, lookups_only=True)

    def rows(self, statement: str, **parameters: Any) -> list[Any]:
        with connect(self.engine) as connection:
            return list(connection.execute(text(statement), parameters))

    def ended(self) -> int:
        ((count,),) = self.rows("SELECT count(*) FROM job_results")
        return int(count)

    def states(self, pool: str) -> list[str]:
        return [row.state for row in self.rows("SELECT state FROM workers WHERE pool = :pool", pool=pool)]

    def outcomes(self) -> dict[str, int]:
        return {
            row.outcome: row.count
            for row in self.rows("SELECT outcome, count(*) AS count FROM job_attempts GROUP BY 1")
        }

    def charged(self) -> tuple[int, dict[int, int]]:
        """How many attempts were charged a crash of the micro-batch that ran. And of lines that were charged
        one while their window was being read, which is larger, how many attempts they had besides.
        """
        rows = self.rows(
            """
            SELECT CAST(j.input ->> 'n' AS integer) AS number, count(*) AS attempts,
                   count(*) FILTER (WHERE a.outcome = 'crashed' AND a.batch_size <= :most) AS ran,
                   count(*) FILTER (WHERE a.outcome = 'crashed' AND a.batch_size > :most) AS read
              FROM job_attempts a CROSS JOIN LATERAL (SELECT input FROM jobs WHERE id = a.job_id OFFSET 0) j
             GROUP BY 1
            """,
            most=MICRO_BATCH,
        )
        return sum(row.ran for row in rows), {row.number: row.attempts - row.read for row in rows if row.read}


@pytest.fixture(scope="module")
def pool(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pool]:
    tmp_path = tmp_path_factory.mktemp("spot")
    notice, file, pace = tmp_path / "notice", tmp_path / "runs", tmp_path / "pace"
    pace.write_text(str(SLOW_S))
    environ = {
        "HEADRACE_WORKER_PURCHASE": "spot",
        "HEADRACE_WORKER_LEASE_TTL_S": "4",
        "HEADRACE_WORKER_HEARTBEAT_S": "1",
        "HEADRACE_SPOT_PROVIDER": "local",
        "HEADRACE_SPOT_LOCAL_FILE": str(notice),
        "HEADRACE_SPOT_POLL_S": "0.2",
        counted.FILE: str(file),
        counted.PACE: str(pace),
    }
    file.touch()
    workers = [f"{name}:cpu.batch:1" for name in POOLS]
    model = f"{Path(counted.__file__)}:Counted"
    with stacks.stack(tmp_path / "state", environ=environ, workers=workers, models=[model]) as stack:
        opened = Pool(stack, notice, file, pace)
        yield opened
        opened.engine.dispose()


def test_a_batch_ends_whole_though_its_machines_are_taken_with_and_without_notice(pool: Pool) -> None:
    lines = b"".join(
        json.dumps(
            {
                "custom_id": str(n),
                "method": "POST",
                "url": "/v1/jobs",
                "body": {"model": "counted", "input": {"n": n}},
            }
        ).encode()
        + b"\n"
        for n in range(LINES)
    )
    with Client(pool.stack.url, pool.stack.api_key, max_retries=30) as client:
        batch = client.batches.create(client.files.create(io.BytesIO(lines), filename="spot.jsonl").id)
        _notice(pool)
        pool.pace.write_text(str(PACE_S))
        kills = _kills(pool, seed=6)
        wait_until(lambda: batch.refresh().status == "completed", 400 if LONG else 120, "the batch to end")
        content = b"".join(client.files.content(batch.output_file_id))
    assert [int(json.loads(line)["custom_id"]) for line in content.splitlines()] == list(range(LINES))
    ran, read = pool.charged()
    assert ran <= kills * MICRO_BATCH, "only what ran is charged, or what was being read"
    begun = Counter(number for micro_batch in runs(str(pool.file)) for number in micro_batch)
    assert all(begun[number] <= other_attempts for number, other_attempts in read.items()), "it had not run"
    twice = sum(begun.values()) - LINES
    # Of short ones, the one before may just be being written: together they are less than one may be.
    written = 0 if PACE_S > DEAR_S else MICRO_BATCH
    assert twice <= kills * (MICRO_BATCH + written), f"{kills} kills, attempts {pool.outcomes()}"
    doctor = pool.stack.headracectl("doctor")
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr


def test_what_can_not_end_in_time_is_taken_over_by_another_worker_and_costs_nothing(pool: Pool) -> None:
    """An operator's word, in place of a cloud's: it has the same consequences."""
    slow = {"custom_id": "a", "method": "POST", "url": "/v1/jobs", "body": {}}
    slow["body"] = {"model": "echo", "input": {"sleep_ms": 60_000}}
    with Client(pool.stack.url, pool.stack.api_key) as client:
        file = client.files.create(io.BytesIO(json.dumps(slow).encode()), filename="slow.jsonl")
        batch = client.batches.create(file.id)
        (holder,) = wait_until(lambda: pool.rows(_HOLDERS), 30, "the job to run")
        told = pool.stack.headracectl("workers", "drain", "--pool", holder.pool, "--within", "5")
        assert told.returncode == 0, told.stderr
        state = "SELECT state FROM workers WHERE id = :id"
        wait_until(lambda: pool.rows(state, id=holder.worker_id) == [("stopped",)], 60, "the worker to leave")
        (next_,) = wait_until(lambda: pool.rows(_HOLDERS), 60, "another one to take the job")
        assert next_.worker_id != holder.worker_id
        assert (next_.attempt, next_.crashes) == (0, 0)
        assert pool.rows("SELECT outcome FROM job_attempts WHERE job_id = :id", id=next_.job_id) == [
            ("released",)
        ]
        wait_until(lambda: "ready" in pool.states(holder.pool), 60, "a new process in its place")
        batch.cancel()
        wait_until(lambda: batch.refresh().status == "cancelled", 30, "the job to be let go")


_HOLDERS = """
    SELECT l.job_id, l.attempt, l.crashes, l.worker_id, w.pool
      FROM job_leases l JOIN workers w ON w.id = l.worker_id
      JOIN model_versions v ON v.id = l.version_id AND v.model = 'echo'
"""


def _notice(pool: Pool) -> None:
    """One machine goes with a notice, comes back, and nothing was run twice, lost or charged."""
    wait_until(lambda: pool.ended() > LINES // 50, 60, "work to be under way")
    (before,) = set(pool.states("spot-a"))
    assert before == "ready"
    pool.notice.write_text(json.dumps({"left_s": 20, "pools": ["spot-a"]}))
    wait_until(lambda: "stopped" in pool.states("spot-a"), 60, "the worker to leave")
    wait_until(lambda: "draining" in pool.states("spot-a"), 60, "its successor to stay away from work")
    outcomes = pool.outcomes()
    assert set(outcomes) <= {"succeeded", "released"}, outcomes
    assert ("stopped", "notice") in pool.rows("SELECT state, drain_cause FROM workers")
    assert pool.rows("SELECT DISTINCT attempt, crashes FROM job_ready WHERE reason = 'preempted'") in (
        [],
        [(0, 0)],
    )
    seen = [number for batch in runs(str(pool.file)) for number in batch]
    assert len(seen) == len(set(seen)), "what ran was not run twice"
    pool.notice.unlink()
    wait_until(lambda: pool.states("spot-a").count("ready") == 1, 60, "a new machine to work")


def _kills(pool: Pool, seed: int) -> int:
    """Machines go without any: one of their processes is killed, every few seconds."""
    chance, pause = random.Random(seed), threading.Event()
    done = 0
    while done < KILLS and pool.ended() < LINES * 9 // 10:
        pause.wait(KILL_EVERY_S)
        running = pids(pool.stack)
        victims = sorted(name for name in running if name.startswith("worker-spot"))
        if victims:
            os.kill(running[chance.choice(victims)], signal.SIGKILL)
            done += 1
    assert done == KILLS, "the batch was over too soon"
    return done
