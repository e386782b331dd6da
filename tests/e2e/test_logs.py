"""What logs tell of a job, and what they, traces, bug reports, Redis, Flower and the metrics never tell."""

import base64
import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import psutil
import psycopg
import pytest
import redis
import requests

from tests.support.receiver import Receiver, receiver
from tests.support.stacks import RunningStack, stack
from tests.support.waiting import wait_until

PLANTED = "planted-payload-4711"
TOKEN = "planted-token-0815"
TRACES = "/v1/traces"
REPORTS = "/api/1/envelope/"

pytestmark = pytest.mark.timeout(150)


class Wire:
    """Everything that any client says to Redis from now on."""

    def __init__(self, url: str) -> None:
        self.heard: list[str] = []
        self._client = redis.Redis.from_url(url)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with self._client.monitor() as monitor:
            while not self._stopped.is_set():
                self.heard.append(str(monitor.next_command()["command"]))

    def stop(self) -> str:
        self._stopped.set()
        self._client.get("so that there is one more command")
        self._thread.join(10)
        return "\n".join(self.heard)


@pytest.fixture(scope="module")
def hooks() -> Iterator[Receiver]:
    with receiver() as one:
        yield one


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory, hooks: Receiver) -> Iterator[RunningStack]:
    environ = {
        "HEADRACE_WORKER_LEASE_TTL_S": "5",
        "HEADRACE_TRACING_ENDPOINT": hooks.url(TRACES),
        "HEADRACE_SENTRY_DSN": hooks.url("/1").replace("//", "//public@"),
    }
    with stack(tmp_path_factory.mktemp("logs") / "state", environ=environ) as up:
        yield up


def all_at(hooks: Receiver, path: str) -> str:
    """All that arrived there: the texts in protobuf are plain, as those in JSON are."""
    return "".join(one.body.decode(errors="replace") for one in hooks.at(path))


@contextlib.contextmanager
def check(running: RunningStack, table: str, condition: str) -> Iterator[None]:
    """A CHECK of this table in force. What Postgres says of a row that breaks one quotes the row."""
    with psycopg.connect(running.database_url, autocommit=True) as connection:
        connection.execute(f"ALTER TABLE {table} ADD CONSTRAINT planted CHECK ({condition})")
        try:
            yield
        finally:
            connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT planted")


def break_checks(running: RunningStack, hooks: Receiver) -> None:
    """One as the API writes a job, one as a worker writes a result; both rows hold what is planted."""

    def violations() -> int:
        return all_at(hooks, REPORTS).count("CheckViolation")

    body = {"model": "echo", "input": {"text": PLANTED}, "metadata": {"name": PLANTED}}
    with check(running, "jobs", "use_case IS DISTINCT FROM 'unwanted'"):
        refused = running.request("POST", "/v1/jobs", json={**body, "use_case": "unwanted"})
        assert refused.status_code == 500
        assert PLANTED not in refused.text
        wait_until(lambda: violations() >= 1, 20, "the report of the API's bug")
    seen = violations()
    with check(running, "job_results", "output IS NULL OR output ->> 'text' <> 'unwanted'"):
        body["input"] = {"text": "unwanted", "more": PLANTED}
        job = running.request("POST", "/v1/jobs", json=body).json()["id"]
        wait_until(lambda: violations() > seen, 30, "the report of the worker's bug")
    wait_until(lambda: running.request("GET", f"/v1/jobs/{job}").json()["status"] == "succeeded", 60, "it")


def lines(running: RunningStack) -> list[dict[str, Any]]:
    """Every line of every log, in the order of time; what is not JSON is Postgres's or Valkey's."""
    found = []
    for path in Path(running.state_dir, "logs").glob("*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if line.startswith('{"'):
                found.append({**orjson.loads(line), "process": path.stem})
    return sorted(found, key=lambda line: str(line.get("timestamp")))


def of(job: str, line: dict[str, Any]) -> bool:
    told = [line.get("job"), *line.get("jobs", []), *(one["job"] for one in line.get("tries", []))]
    return job in told


def test_one_jobs_life_is_in_the_logs(running: RunningStack, hooks: Receiver) -> None:
    asked = {
        "model": "echo",
        "input": {"fail": "retryable"},
        "retry": {"max_attempts": 2, "initial_delay_ms": 100, "max_delay_ms": 100},
        "webhook": hooks.url("/life"),
    }
    headers = {"X-Request-Id": "the-life-of-a-job"}
    job = running.request("POST", "/v1/jobs", json=asked, headers=headers).json()["id"]
    hooks.wait_for(1, "/life")
    wait_until(
        lambda: "webhook.tries" in [line["event"] for line in lines(running) if of(job, line)], 20, "it"
    )
    life = [line for line in lines(running) if of(job, line)]
    assert [line["event"] for line in life] == [
        "http.request",
        *("claim.jobs", "infer.batch", "settle.jobs"),
        *("claim.jobs", "infer.batch", "settle.jobs"),
        "webhook.tries",
    ]
    accepted, first, _, back, second, _, ended, told = life
    assert (accepted["request_id"], accepted["tenant"]) == ("the-life-of-a-job", "default")
    assert (first["epoch"], back["status"]) == (back["epoch"], "queued")
    assert second["epoch"] > first["epoch"]
    assert (ended["epoch"], ended["status"]) == (second["epoch"], "failed")
    (tried,) = [one for one in told["tries"] if one["job"] == job]
    assert (tried["status"], tried["code"]) == ("delivered", 204)
    # SQL says the same.
    attempts = running.request("GET", f"/v1/jobs/{job}").json()["attempts"]
    assert [attempt["outcome"] for attempt in attempts] == ["error", "error"]


def test_planted_secrets_and_payloads_are_nowhere(running: RunningStack, hooks: Receiver) -> None:
    wire = Wire(running.redis_url)
    hooks.answers["/refuses"] = 500
    post = running.request
    created = post(
        "POST", "/v1/webhooks", json={"url": hooks.url(f"/refuses?t={TOKEN}"), "events": ["job.completed"]}
    ).json()
    bodies: list[dict[str, Any]] = [
        {"input": {"text": PLANTED}, "metadata": {"name": PLANTED}, "webhook": hooks.url(f"/own?t={TOKEN}")},
        {"input": {"fail": "fatal", "text": PLANTED}},
        {"input": {"crash": True, "text": PLANTED}, "retry": {"max_attempts": 1}},
        {"input": PLANTED},
        {"input": {}, "webhook": f"http://user:{TOKEN}@10.0.0.1/{PLANTED}"},
        {"input": {}, "priority": PLANTED},
    ]
    jobs = [post("POST", "/v1/jobs", json={"model": "echo", **body}).json().get("id") for body in bodies]
    post("POST", "/v1/jobs", data=f'{{"broken": "{PLANTED}', headers={"Content-Type": "application/json"})
    post("POST", "/v1/jobs", json={}, headers={"Authorization": f"Bearer hr_abc_{TOKEN}"})
    item = {"custom_id": PLANTED, "method": "POST", "url": "/v1/jobs"}
    item["body"] = {"model": "echo", "input": {"text": PLANTED}}
    batch = post("POST", "/v1/batches", json={"endpoint": "/v1/jobs", "requests": [item]}).json()["id"]
    for job in filter(None, jobs):
        wait_until(
            lambda job=job: post("GET", f"/v1/jobs/{job}").json()["status"] in ("succeeded", "failed"),
            60,
            job,
        )
    wait_until(lambda: post("GET", f"/v1/batches/{batch}").json()["status"] == "completed", 60, "the batch")
    wait_until(lambda: hooks.at("/own") and hooks.at("/refuses"), 20, "webhooks")
    break_checks(running, hooks)
    for span in ("POST /v1/jobs", "accept", "micro-batch", "webhook"):
        wait_until(lambda span=span: span in all_at(hooks, TRACES), 20, span)

    env = running.env
    secrets = {
        "payload": PLANTED,
        "token": TOKEN,
        "key": env["HEADRACE_API_KEY"].split("_")[2],
        "pepper": env["HEADRACE_SECRET_KEY"],
        "database password": str(urlsplit(env["HEADRACE_DATABASE_URL"]).password),
        "redis password": str(urlsplit(env["HEADRACE_REDIS_URL"]).password),
        "webhook secret": created["secret"].removeprefix("whsec_"),
    }
    said = wire.stop()
    with redis.Redis.from_url(running.redis_url) as client:
        kept = "".join(f"{key}{client.dump(key)!r}" for key in client.scan_iter())
    flower = urlsplit(running.flower_url)
    base = f"http://{flower.hostname}:{flower.port}"
    login = (str(flower.username), str(flower.password))
    places = {
        "Redis": said + kept,
        "Flower": "".join(
            requests.get(f"{base}{path}", auth=login, timeout=20).text
            for path in ("/", "/tasks", "/workers", "/api/tasks", "/api/workers", "/metrics")
        ),
        "traces": all_at(hooks, TRACES),
        "bug reports": all_at(hooks, REPORTS),
        "metrics": running.request("GET", "/metrics").text,
        "command lines": "\n".join(
            " ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])
        ),
        **{path.name: path.read_text(errors="replace") for path in running.state_dir.glob("logs/*")},
    }
    found = {
        (what, where)
        for where, text in places.items()
        for what, secret in secrets.items()
        for form in (secret, base64.b64encode(secret.encode()).decode()[: len(secret)])
        if form in text
    }
    assert found == set()
    assert "claim.jobs" in places["worker-interactive.log"]
    assert "drain" in said, "bells were heard"
