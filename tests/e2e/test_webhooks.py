"""Webhooks through real processes: whatever dies, whoever receives, and whatever verifies them."""

import os
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest
from headrace import Client, ConflictError, NotFoundError, webhooks
from headrace.errors import WebhookVerificationError
from standardwebhooks.webhooks import Webhook

from app.db import models
from app.domain.lanes import Device
from app.domain.signature import new_secret
from tests.support import node, stacks
from tests.support.bad_receivers import bad_receivers
from tests.support.jobs import Queue
from tests.support.killer import FLUSH, Killer, pids
from tests.support.ledger import Ledger
from tests.support.models import ECHO_SPEC
from tests.support.receiver import Received, Receiver, receiver
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until

HEADRACE = str(Path(sys.executable).with_name("headrace"))
NOT_ENDED = ("pending", "sending")


@pytest.fixture
def hooks() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture(scope="module")
def client(stack: RunningStack) -> Iterator[Client]:
    with Client(stack.url, stack.api_key) as connected:
        yield connected


# Bad receivers


@dataclass(frozen=True)
class Crowd:
    """Five endpoints of one tenant that were told of the same jobs: two good ones and three bad ones."""

    good: Receiver
    bad: dict[str, str]
    """Endpoint ids, by what is to be expected of their first try."""


@pytest.fixture(scope="module")
def crowd(client: Client) -> Iterator[Crowd]:
    """The bad ones stay for the rest of this module: whatever it tests holds in their presence."""
    with receiver() as good, bad_receivers() as bad, ThreadPoolExecutor(3) as clients, ExitStack() as undo:

        def register(url: str) -> str:
            id = client.webhooks.create(url).id
            undo.callback(client.webhooks.delete, id)
            return id

        ids = {
            "connection_refused": register(bad.refusing),
            "timeout": register(bad.silent),
            "timeout while it drips": register(bad.dripping),
        }
        for path in ("/one", "/two"):
            register(good.url(path))
        # As fast as three clients go who wait for each result: busy, and nobody's queue grows.
        list(clients.map(lambda n: client.submit("echo", {"n": n}, wait=30), range(300)))
        good.wait_for(600, deadline_s=60)
        yield Crowd(good, ids)


def test_bad_receivers_delay_no_good_one(crowd: Crowd) -> None:
    to_wall_clock = time.time() - time.monotonic()
    delays = [
        one.at + to_wall_clock - datetime.fromisoformat(one.event["data"]["completed_at"]).timestamp()
        for one in crowd.good.received
    ]
    assert len(delays) >= 600
    assert statistics.quantiles(delays, n=100)[98] < 1


# Processes die


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """A stack that may be broken."""
    with stacks.stack(tmp_path_factory.mktemp("fragile") / "state", workers=["solo:cpu.interactive:2"]) as it:
        yield it


@pytest.mark.parametrize("killed", [["sender/child-1"], ["sender/child-1", "sender"]])
def test_a_sender_killed_between_the_post_and_its_commit_sends_again(
    fragile: RunningStack, hooks: Receiver, killed: list[str]
) -> None:
    running = wait_until(lambda: _all_of(pids(fragile), killed), 30, "the sender to run")

    def kill_at_first(_: Received) -> int:
        if len(hooks.received) == 1:
            for pid in running:
                os.kill(pid, signal.SIGKILL)
        return 204

    hooks.answers["/hook"] = kill_at_first
    with Client(fragile.url, fragile.api_key) as client:
        job = client.submit("echo", {"text": "once"}, webhook=hooks.url(), wait=30)
        first, second = hooks.wait_for(2, deadline_s=30)
        assert second.at - first.at < 10
        assert (first.id, first.body) == (second.id, second.body)
        delivery = _ended(client, first.id)
        assert delivery.status == "delivered"
        assert [attempt["error"] for attempt in delivery.attempts] == ["sender_lost", None]
        assert len(hooks.received) == 2
    with psycopg.connect(fragile.database_url) as connection:
        results = connection.execute(
            "SELECT count(*) FROM job_results WHERE job_id = %s", [job.id.removeprefix("job_")]
        ).fetchone()
    assert results == (1,)


VICTIMS = (
    "sender/child-1",
    "sender",
    "worker-solo/child-1",
    "worker-solo/child-2",
    "worker-solo",
    "api",
    "scheduler",
    FLUSH,
)


@pytest.mark.timeout(150)
def test_of_2000_jobs_on_a_bad_day_every_end_is_told_and_nothing_else(
    fragile: RunningStack, hooks: Receiver
) -> None:
    queue = Queue.open(fragile.database_url)
    models.register(queue.engine, replace(ECHO_SPEC, name="unserved", device=Device.GPU), actor="test")
    queue.engine.dispose()
    client = Client(fragile.url, fragile.api_key, max_retries=30)
    endpoint = client.webhooks.create(hooks.url("/endpoint"))
    own = client.webhooks.default_secret().secret
    ledger = Ledger({"/endpoint": endpoint.secret or "", "/own": own})
    hooks.answers |= {"/endpoint": ledger.told, "/own": ledger.told}

    def submit(number: int) -> None:
        job = client.submit(
            "unserved" if number % 100 == 0 else "echo",
            {"n": number, "sleep_ms": number % 7},
            webhook=hooks.url("/own") if number % 2 == 0 else None,
            metadata={"day": "bad"},
        )
        receivers = ("/endpoint", "/own") if number % 2 == 0 else ("/endpoint",)
        ledger.accepted(job.id, *receivers, must_end=number % 100 != 0)

    def done() -> int:
        return ledger.promised() + len(hooks.received)

    with Killer(fragile, VICTIMS, times=2, progress=done, total=4000, seed=1) as killer:
        with ThreadPoolExecutor(8) as clients:
            list(clients.map(submit, range(2000)))
        wait_until(lambda: not ledger.open(), 60, "every end to be told")
        wait_until(lambda: not killer.left, 10, "everything to be killed twice")
    wait_until(lambda: not _unfinished(client), 30, "the last delivery to end")
    jobs = [job.raw for job in client.jobs.list(metadata={"day": "bad"})]
    assert ledger.judge(jobs) == []
    assert sum(job["status"] == "queued" for job in jobs) == 20
    client.webhooks.delete(endpoint.id)
    client.close()


# Whoever verifies


@dataclass(frozen=True)
class Case:
    """A request as it reaches a receiver that knows `secret`, and what any verifier must say to it."""

    name: str
    secret: str
    headers: dict[str, str]
    body: str
    verdict: str
    """The event's type, or what is wrong: `age` or `signature`."""


@pytest.fixture(scope="module")
def cases(client: Client) -> list[Case]:
    """Real deliveries of one endpoint through its rotation, real ones of a job's own URL, and forgeries."""
    with receiver() as hooks:
        endpoint = client.webhooks.create(hooks.url())

        def deliver(**options: Any) -> Received:
            before = len(hooks.at("/hook"))
            client.submit("echo", {"text": "Wasser 水 💧"}, **options)
            return hooks.wait_for(before + 1, "/hook")[-1]

        old, plain = endpoint.secret or "", deliver(webhook=hooks.url("/own"))
        own = hooks.wait_for(1, "/own")[0]
        new, both = client.webhooks.rotate_secret(endpoint.id).secret or "", deliver()
        newest = client.webhooks.rotate_secret(endpoint.id, grace_period_seconds=0).secret or ""
        single = deliver()
        client.webhooks.delete(endpoint.id)

    default = client.webhooks.default_secret().secret
    stale_at = int(time.time()) - 400
    stale = webhooks.sign(plain.id, stale_at, plain.body, old)
    stale_headers = {"webhook-timestamp": str(stale_at), "webhook-signature": stale}
    changed = plain.body.replace(b"Wasser", b"wasser")
    assert changed != plain.body
    return [
        _case("genuine", old, plain),
        _case("genuine, of a job's own URL", default, own),
        _case("rotated, by the old secret", old, both),
        _case("rotated, by the new secret", new, both),
        _case("rotated without grace, by the newest secret", newest, single),
        _case("rotated without grace, by the old secret", old, single, verdict="signature"),
        _case("rotated without grace, by the one before", new, single, verdict="signature"),
        _case("the wrong secret", new_secret(), plain, verdict="signature"),
        _case("the other receiver's secret", old, own, verdict="signature"),
        _case("a changed byte", old, replace(plain, body=changed), verdict="signature"),
        _case("an old timestamp", old, plain, verdict="age", **stale_headers),
        _case("a renewed timestamp", old, plain, verdict="signature", **{"webhook-timestamp": _soon(plain)}),
        _case("another's id", old, plain, verdict="signature", **{"webhook-id": own.id}),
    ]


@pytest.fixture(scope="module")
def node_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the official Node library, as the lock file pins it."""
    return node.install(tmp_path_factory.mktemp("node"))


def test_our_sdk_verifies_them(cases: list[Case]) -> None:
    def verdict(case: Case) -> str:
        try:
            return webhooks.verify(case.headers, case.body, case.secret).type
        except WebhookVerificationError as error:
            return {"too_old": "age", "wrong_signature": "signature"}[error.reason]

    assert {case.name: verdict(case) for case in cases} == _expected(cases)


def test_the_official_python_library_verifies_them(cases: list[Case]) -> None:
    def verdict(case: Case) -> str:
        try:
            return str(Webhook(case.secret).verify(case.body, case.headers)["type"])
        except Exception as error:
            return _reason(str(error))

    assert {case.name: verdict(case) for case in cases} == _expected(cases)


def test_the_official_node_library_verifies_them(cases: list[Case], node_library: Path) -> None:
    asked = [{"secret": case.secret, "headers": case.headers, "body": case.body} for case in cases]
    done = subprocess.run(
        ["node", "verify.mjs"],
        cwd=node_library,
        input=b"\n".join(orjson.dumps(line) for line in asked),
        capture_output=True,
        timeout=60,
        check=True,
    )
    said = [_reason(orjson.loads(line)) for line in done.stdout.splitlines()]
    assert dict(zip([case.name for case in cases], said, strict=True)) == _expected(cases)


# SDK and command line


def test_the_life_of_an_endpoint_through_the_sdk(client: Client, hooks: Receiver) -> None:
    endpoint = client.webhooks.create(
        hooks.url(), events=["job.started", "job.completed"], description="of a test"
    )
    shown = client.webhooks.get(endpoint.id)
    assert (shown.url, shown.description, shown.status) == (hooks.url(), "of a test", "enabled")
    assert shown.secret is None
    assert endpoint in list(client.webhooks.list())

    job = client.submit("echo", {"n": 1}, wait=30)
    verified = [webhooks.verify(one.headers, one.body, endpoint.secret or "") for one in hooks.wait_for(2)]
    events = {event.type: event for event in verified}
    assert set(events) == {"job.started", "job.completed"}
    assert events["job.started"].data["status"] == "running"
    assert events["job.completed"].data == client.jobs.get(job.id).raw
    listed = list(client.webhooks.deliveries.list(endpoint_id=endpoint.id, job_id=job.id))
    assert {delivery.id: delivery.event for delivery in listed} == {
        event.id: event.type for event in verified
    }

    sent = _ended(client, events["job.completed"].id)
    assert sent.status == "delivered"
    assert client.webhooks.deliveries.redeliver(sent.id).id == sent.id
    again = hooks.wait_for(3)[-1]
    repeated = webhooks.verify(again.headers, again.body, endpoint.secret or "")
    assert (repeated.id, repeated.raw) == (sent.id, events["job.completed"].raw)
    assert [attempt["status_code"] for attempt in _ended(client, sent.id).attempts] == [204, 204]

    client.webhooks.update(endpoint.id, status="disabled")
    missed = client.submit("echo", {"n": 2}, wait=30)
    lost = list(client.webhooks.deliveries.list(endpoint_id=endpoint.id, status="failed"))
    assert [(one.job_id, one.error) for one in lost] == [(missed.id, "endpoint_disabled")] * 2
    with pytest.raises(ConflictError):
        client.webhooks.test(endpoint.id)
    client.webhooks.update(endpoint.id, status="enabled")
    assert client.webhooks.recover(endpoint.id, since=missed.created_at) == 2
    assert {one.id for one in hooks.wait_for(5)[3:]} == {one.id for one in lost}

    rotated = client.webhooks.rotate_secret(endpoint.id)
    delivery = client.webhooks.test(endpoint.id, wait=15)
    assert delivery.status == "delivered"
    for secret in (endpoint.secret, rotated.secret):
        last = hooks.received[-1]
        assert webhooks.verify(last.headers, last.body, secret or "").type == "endpoint.test"

    client.webhooks.delete(endpoint.id)
    with pytest.raises(NotFoundError):
        client.webhooks.get(endpoint.id)
    with pytest.raises(ConflictError):
        client.webhooks.deliveries.redeliver(sent.id)


def test_the_command_line_tests_an_endpoint(stack: RunningStack, client: Client, hooks: Receiver) -> None:
    endpoint = client.webhooks.create(hooks.url())
    good = _headrace(stack, "webhooks", "test", endpoint.id)
    assert (good.returncode, hooks.received[-1].event["type"]) == (0, "endpoint.test"), good.stderr
    hooks.answers["/hook"] = 503
    bad = _headrace(stack, "webhooks", "test", endpoint.id)
    assert bad.returncode == 1
    assert "503" in bad.stdout
    client.webhooks.delete(endpoint.id)


def test_listen_forwards_to_an_application_and_leaves_nothing(
    stack: RunningStack, client: Client, hooks: Receiver
) -> None:
    with subprocess.Popen(
        [HEADRACE, "listen", "--forward", hooks.url("/app")],
        env=_environ(stack),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout
        assert process.stderr
        told = "".join(iter(process.stderr.readline, "Ctrl-C ends it and removes the endpoint\n"))
        (endpoint_id,) = re.findall(r"whk_\w+", told)
        (secret,) = re.findall(r"whsec_\S+", told)
        assert endpoint_id in [endpoint.id for endpoint in client.webhooks.list()]
        job = client.submit("echo", {"n": 1}, wait=30)
        line = process.stdout.readline()
        assert all(word in line for word in ("job.completed", job.id, "succeeded", "204"))
        (forwarded,) = hooks.wait_for(1, "/app")
        assert webhooks.verify(forwarded.headers, forwarded.body, secret).data["id"] == job.id
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    assert endpoint_id not in [endpoint.id for endpoint in client.webhooks.list()]


# Last, because the first tries end at their deadline only: meanwhile the tests above have run.


def test_the_log_says_what_was_wrong_with_bad_receivers(client: Client, crowd: Crowd) -> None:
    for expected, endpoint_id in crowd.bad.items():
        *_, oldest = found = list(client.webhooks.deliveries.list(endpoint_id=endpoint_id))
        assert len(found) >= 300
        assert {delivery.status for delivery in found} <= {*NOT_ENDED, "failed"}
        tried = wait_until(_tried(client, oldest.id), 30, "the first try to end")
        assert tried[0]["error"] == expected.partition(" ")[0]
        assert tried[0]["status_code"] is None


def _all_of(found: dict[str, int], names: list[str]) -> list[int]:
    """The process ids of these names, or nothing while one of them does not run."""
    return [found[name] for name in names] if found.keys() >= set(names) else []


def _ended(client: Client, delivery_id: str) -> Any:
    """The delivery, once it has ended."""

    def ended() -> Any:
        delivery = client.webhooks.deliveries.get(delivery_id)
        return delivery if delivery.done else None

    return wait_until(ended, 20, f"{delivery_id} to end")


def _tried(client: Client, delivery_id: str) -> Callable[[], list[Any]]:
    return lambda: client.webhooks.deliveries.get(delivery_id).attempts


def _unfinished(client: Client) -> bool:
    return any(list(client.webhooks.deliveries.list(status=status, limit=1)) for status in NOT_ENDED)


def _case(name: str, secret: str, got: Received, *, verdict: str = "", **headers: str) -> Case:
    return Case(
        name, secret, {**got.headers, **headers}, got.body.decode(), verdict or str(got.event["type"])
    )


def _soon(got: Received) -> str:
    return str(int(got.headers["webhook-timestamp"]) + 1)


def _expected(cases: list[Case]) -> dict[str, str]:
    return {case.name: case.verdict for case in cases}


def _reason(said: str) -> str:
    """What the official libraries complain of, in a word."""
    return {"No matching signature found": "signature", "Message timestamp too old": "age"}.get(said, said)


def _environ(stack: RunningStack) -> dict[str, str]:
    return {**os.environ, "HEADRACE_URL": stack.url, "HEADRACE_API_KEY": stack.api_key, "NO_COLOR": "1"}


def _headrace(stack: RunningStack, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [HEADRACE, *arguments],
        env=_environ(stack),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
