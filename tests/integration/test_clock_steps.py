"""The wall clock of every process is set forward and back by minutes while it works: nobody may notice."""

import contextlib
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import requests

from app.db import conservation
from app.embedded.program import Program
from tests.integration.api.conftest import open_api
from tests.integration.api.server import environment, serve
from tests.support import servers
from tests.support.jobs import Queue
from tests.support.lone_worker import lone_worker
from tests.support.waiting import wait_until
from workers.maintenance import prune

STEPS = ("+7m", "-7m", "+0m")


class Wall:
    """A file that says what the clock is off by; who is told of it reads it again at every look."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.step("+0m")

    def step(self, by: str) -> None:
        self._file.write_text(f"{by}\n")

    @property
    def variables(self) -> dict[str, str]:
        import libfaketime

        (library,) = Path(libfaketime.__file__).parent.rglob("libfaketime.so.1")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        }


@pytest.mark.skipif(sys.platform != "linux", reason="libfaketime is preloaded as on Linux")
def test_jobs_run_once_while_the_clock_is_set_forward_and_back(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    wall = Wall(tmp_path / "wall")
    with contextlib.ExitStack() as stack:
        api = stack.enter_context(open_api(database_url, redis_url))
        api.queue.execute("UPDATE tenants SET requests_per_minute = 100000")
        variables = {
            name: value
            for name, value in environment(api.settings, **wall.variables).items()
            if name.startswith(("HEADRACE_", "FAKETIME", "LD_"))
        }
        stack.enter_context(lone_worker(api.settings, tmp_path / "worker.log", **wall.variables))
        words = ["env", *(f"{name}={value}" for name, value in variables.items())]
        words += [sys.executable, "-m", "workers.maintenance"]
        stack.enter_context(servers.run(Program("scheduler", words), tmp_path / "scheduler.log"))
        server = stack.enter_context(
            serve(api.settings, tmp_path, HEADRACE_API_PROCESSES="1", **wall.variables)
        )
        client = stack.enter_context(requests.Session())
        client.headers["Authorization"] = f"Bearer {api.key}"
        run(client, server.url, "before", 60)
        for step in STEPS:
            waiting = submit(client, server.url, f"over {step}", sleep_ms=1000)
            wall.step(step)
            ended = client.get(waiting, headers={"Prefer": "wait=10"}, timeout=30).json()
            assert ended["status"] == "succeeded"
            assert len(ended["attempts"]) == 1
            run(client, server.url, f"after {step}", 15)
            assert client.get(f"{server.url}/readyz", timeout=10).json()["status"] == "ready"
        assert api.queue.execute("SELECT DISTINCT outcome, attempt FROM job_attempts") == [("succeeded", 1)]
        assert api.queue.execute("SELECT count(*) FROM workers WHERE state <> 'ready'") == [(0,)]
        assert not conservation.check(api.queue.engine).violations


def submit(client: requests.Session, url: str, key: str, **input: Any) -> str:
    """Twice under one key; where the one job is."""
    body = {"model": "echo", "input": input}
    answers = [
        client.post(f"{url}/v1/jobs", json=body, headers={"Idempotency-Key": key}, timeout=10)
        for _ in range(2)
    ]
    first, again = (answer.json() for answer in answers)
    assert first["id"] == again["id"], again
    return f"{url}/v1/jobs/{first['id']}"


def run(client: requests.Session, url: str, key: str, within_s: float) -> None:
    place = submit(client, url, key)
    wait_until(lambda: client.get(place, timeout=10).json()["status"] == "succeeded", within_s, key)


def test_retention_goes_by_the_database_and_not_by_the_machine(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine may come up years ahead, and what is dropped does not come back."""

    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2100, 1, 1, tzinfo=tz)

    monkeypatch.setattr(prune, "datetime", Ahead)
    before = partitions(queue)
    assert prune.Prune(queue.engine, retention_days=3, idempotency_hours=24).run_once() == 0
    assert partitions(queue) == before


def partitions(queue: Queue) -> set[str]:
    return {name for (name,) in queue.execute("SELECT relname FROM pg_class WHERE relname LIKE 'jobs_p%'")}
