"""A live Prometheus scrapes every kind of process; each panel and alert asks it something that it knows."""

import contextlib
import math
import os
import signal
import subprocess
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from app.embedded import leftovers, programs
from app.embedded.ports import Ports
from app.embedded.program import Program
from tests.support.prometheus import BINARY, Prometheus, prometheus
from tests.support.receiver import Receiver, receiver
from tests.support.stacks import RunningStack, stack
from tests.support.waiting import wait_until
from tests.unit.test_alerts import RULES, queries

pytestmark = [
    pytest.mark.skipif(BINARY is None, reason="prometheus is in Debian's package of that name"),
    pytest.mark.timeout(180),
]

QUEUE = "cpu.interactive"


@dataclass
class Watched:
    """A stack whose API shows its processes, one more of each kind that shows itself, and who looks."""

    stack: RunningStack
    hooks: Receiver
    prometheus: Prometheus

    def post(self, path: str, body: object, status: int) -> str:
        answer = self.stack.request("POST", path, json=body)
        assert answer.status_code == status, answer.text
        return str(answer.json().get("id"))

    def sql(self, statement: str) -> int:
        with psycopg.connect(self.stack.database_url) as connection:
            row = connection.execute(statement).fetchone()
        assert row
        return int(row[0])

    def value(self, expression: str) -> float:
        return sum(value for _, value in self.prometheus.query(expression))


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("prometheus")
    with contextlib.ExitStack() as held:
        running = held.enter_context(stack(folder / "state"))
        hooks = held.enter_context(receiver())
        ports = Ports()
        services = [programs.sender(running.url), programs.clerk(), programs.scheduler()]
        workers = [programs.worker(programs.Worker("more", (QUEUE,)))]
        own = {program.name: ports.take() for program in (*services, *workers)}
        for program in (*services, *workers):
            held.enter_context(beside(running, program, own[program.name], folder))
        targets = {
            "headrace-api": [running.url.removeprefix("http://")],
            "headrace-workers": [f"127.0.0.1:{own[program.name]}" for program in workers],
            "headrace-services": [f"127.0.0.1:{own[program.name]}" for program in services],
        }
        yield Watched(running, hooks, held.enter_context(prometheus(folder, targets)))


@contextlib.contextmanager
def beside(running: RunningStack, program: Program, port: int, folder: Path) -> Iterator[None]:
    """One more process of the stack, which shows its own metrics, as in a container."""
    own = folder / program.name
    (own / "metrics").mkdir(parents=True)
    environment = {
        **os.environ,
        **running.env,
        **leftovers.mark(running.state_dir),
        **program.environment,
        "HEADRACE_METRICS_BIND": f"127.0.0.1:{port}",
        "HEADRACE_METRICS_DIR": str(own / "metrics"),
        "PROMETHEUS_MULTIPROC_DIR": str(own / "metrics"),
    }
    with (own / "log").open("wb") as log:
        process = subprocess.Popen(program.command, env=environment, cwd=own, stdout=log, stderr=log)
        try:
            yield
        finally:
            process.terminate()
            process.wait(30)


def a_day(watched: Watched) -> None:
    """Something of everything: successes, failures, refusals, a batch, webhooks, a worker that dies."""
    hook = watched.hooks.url()
    watched.post("/v1/webhooks", {"url": hook, "events": ["job.completed"]}, 201)
    jobs = [
        watched.post("/v1/jobs", {"model": "echo", "input": {"n": n, "sleep_ms": 1}, "webhook": hook}, 202)
        for n in range(20)
    ]
    jobs.append(watched.post("/v1/jobs", {"model": "echo", "input": {"fail": "fatal"}}, 202))
    watched.post("/v1/jobs", {"model": "echo", "input": 1}, 422)
    item = {"custom_id": "a", "method": "POST", "url": "/v1/jobs", "body": {"model": "echo", "input": {}}}
    watched.post("/v1/batches", {"endpoint": "/v1/jobs", "requests": [item]}, 200)
    late = {"model": "echo", "input": {"sleep_ms": 3000}}
    dying = watched.post("/v1/jobs", late, 202)
    wait_until(lambda: watched.sql("SELECT count(*) FROM job_leases"), 20, "a job to run")
    held = "SELECT pid FROM workers w WHERE EXISTS (SELECT FROM job_leases l WHERE l.worker_id = w.id)"
    os.kill(watched.sql(held), signal.SIGKILL)
    jobs.append(dying)
    wait_until(
        lambda: watched.sql("SELECT count(*) FROM job_results") == len(jobs) + 1, 60, "every job to end"
    )
    wait_until(
        lambda: watched.sql("SELECT count(*) FROM webhook_results") >= 20, 30, "every webhook to be told"
    )


def none(found: Collection[object]) -> bool:
    assert not found, found
    return True


def test_every_process_is_scraped_every_panel_has_data_and_counters_are_what_sql_counts(
    watched: Watched,
) -> None:
    server = watched.prometheus
    wait_until(
        lambda: {target["health"] for target in server.targets()} == {"up"}, 60, "every target to be up"
    )
    assert len(server.targets()) == 5
    a_day(watched)

    alerts = {rule["alert"] for rule in RULES}
    panels = {where: query for where, query in queries().items() if where not in alerts}

    def silent() -> list[str]:
        # A rate needs something between two scrapes.
        watched.post("/v1/jobs", {"model": "echo", "input": {}}, 202)
        return [
            where
            for where, query in panels.items()
            if not any(math.isfinite(value) for _, value in server.query(query))
        ]

    wait_until(lambda: none(silent()), 30, "every panel to have data")
    wait_until(lambda: all(rule["health"] == "ok" for rule in server.rules()), 30, "every rule to be judged")
    assert {rule["name"] for rule in server.rules()} >= alerts
    assert [target for target in server.targets() if target["health"] != "up"] == []

    def differs() -> dict[str, tuple[float, int]]:
        pairs = {
            counter: (watched.value(f"sum({counter})"), watched.sql(statement))
            for counter, statement in {
                "headrace_accept_jobs_total": "SELECT count(*) FROM jobs WHERE batch_id IS NULL",
                "headrace_batches_jobs_total": "SELECT count(*) FROM jobs WHERE batch_id IS NOT NULL",
                'headrace_settle_jobs_total{status="succeeded"}': "SELECT count(*) FROM job_results"
                " WHERE status = 'succeeded'",
                'headrace_settle_jobs_total{status="failed"}': "SELECT count(*) FROM job_results"
                " WHERE status = 'failed'",
                'headrace_webhook_tries_total{outcome="delivered"}': "SELECT count(*) FROM webhook_results"
                " WHERE status = 'delivered'",
                "headrace_rescue_workers_total": "SELECT count(*) FROM workers WHERE state = 'dead'",
            }.items()
        }
        return {counter: pair for counter, pair in pairs.items() if pair[0] != pair[1]}

    wait_until(lambda: none(differs()), 20, "counters to be what SQL counts")
