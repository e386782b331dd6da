"""The disk under Postgres's tables is full: what can't be written waits, and nothing is lost or charged.

Heartbeats and claims still find room in the tables' pages, so work would go on by halves.
"""

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiohttp import web
from pydantic import SecretStr

from app.broker.ring import Ringer
from app.db import conservation, deliveries, partitions
from app.db.engine import copy_in, make_engine, sqlstate, transaction
from app.domain.ids import new_uuid
from app.domain.lanes import Lane
from app.domain.stages import WorkerIdentity
from app.errors import NoRoom
from tests.integration.api.conftest import open_api
from tests.support.bulk import Bulk, line
from tests.support.crew import make_child
from tests.support.jobs import Queue, settings_for
from tests.support.outbox import Outbox
from tests.support.receiver import Received, receiver
from tests.support.servers import PostgresServer
from tests.support.small_disk import SmallDisk, database_on, needs_small_disk, small_disk
from tests.support.waiting import wait_until
from workers import pipeline
from workers.child import Child
from workers.drainflag import DrainFlag
from workers.maintenance.prune import Prune
from workers.maintenance.rescue import Rescue
from workers.notify import Notifier
from workers.pipeline import drain
from workers.webhooks.sender import Sender

pytestmark = needs_small_disk

MEGABYTES = 64


def large() -> dict[str, str]:
    """An input that no page of a table has room for, and that can't be compressed."""
    return {"text": secrets.token_hex(20_000)}


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", MEGABYTES) as mounted:
        yield mounted


@pytest.fixture
def database_url(disk: SmallDisk, postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    with database_on(disk, postgres_server, template_database) as url:
        yield url


def test_a_request_is_told_to_come_back_later_and_one_job_is_made_when_it_does(
    disk: SmallDisk, database_url: str, redis_url: str
) -> None:
    with open_api(database_url, redis_url) as api:
        earlier = api.submit(large())
        body, key = orjson.dumps({"model": "echo", "input": large()}), "a-key"
        disk.fill()
        refused = api.send(body, Idempotency_Key=key)
        assert (refused.status_code, refused.json["code"]) == (503, "no_room")
        assert refused.json["detail"] == "the database's disk is full"
        assert (refused.json["retryable"], refused.headers["Retry-After"]) == (True, "15")
        assert api.get(f"/v1/jobs/{earlier['id']}").status_code == 200, "what can be read is read"
        assert api.get("/readyz").status_code == 200
        assert 'headrace_no_room_total{service="postgres"}' in api.get("/metrics").text
        assert api.queue.execute("SELECT count(*) FROM jobs") == [(1,)]
        assert api.queue.execute("SELECT count(*) FROM idempotency_keys") == [(0,)]
        disk.free()
        first, again = (api.send(body, Idempotency_Key=key) for _ in range(2))
        assert (first.status_code, again.headers["Idempotent-Replayed"]) == (202, "true")
        assert api.queue.execute("SELECT count(*) FROM jobs") == [(2,)]
        assert not conservation.check(api.queue.engine).violations


@contextmanager
def working(child: Child, queue: Queue) -> Iterator[None]:
    thread = threading.Thread(target=drain, args=(child, queue.echo, Lane.INTERACTIVE))
    thread.start()
    yield
    thread.join(30)
    assert not thread.is_alive()


@contextmanager
def full_once_run(disk: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """The disk fills up while the model runs; the event says that a result could not be written."""
    waits, before, settling = threading.Event(), pipeline.infer, pipeline.settle

    def infer(*arguments: Any) -> Any:
        outcomes = before(*arguments)
        disk.fill()
        return outcomes

    def settle(*arguments: Any) -> Any:
        try:
            return settling(*arguments)
        except NoRoom:
            waits.set()
            raise

    monkeypatch.setattr(pipeline, "infer", infer)
    monkeypatch.setattr(pipeline, "settle", settle)
    monkeypatch.setattr(pipeline, "SETTLE_RETRY_S", 0.05)
    yield waits
    monkeypatch.undo()


def test_results_wait_for_room_past_their_deadline_and_nobody_is_charged(
    disk: SmallDisk, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, child = Queue.open(database_url), make_child(database_url, redis_url)
    ids = [queue.submit(large()) for _ in range(5)]
    rescue = Rescue(queue.engine, Notifier(SecretStr(redis_url)), 30, 3, _looked_at=time.monotonic())
    with full_once_run(disk, monkeypatch) as waits, working(child, queue):
        assert waits.wait(20)
        # As if the deadline of what is in hand had passed long ago, which it would have on a slower day.
        assert wait_until(lambda: not _in_hand(queue), 5, "it to be put down")
        queue.execute("UPDATE workers SET batch_deadline_at = batch_deadline_at - interval '1 hour'")
        assert rescue.run_once() == 0
        child.heartbeat()
        disk.free()
    assert {queue.get(job_id).status for job_id in ids} == {"succeeded"}
    assert queue.execute("SELECT attempt, outcome, count(*) FROM job_attempts GROUP BY 1, 2") == [
        (1, "succeeded", 5)
    ]
    assert queue.execute("SELECT DISTINCT state FROM workers") == [("ready",)]
    assert not conservation.check(queue.engine).violations
    queue.engine.dispose()
    child.engine.dispose()


def _in_hand(queue: Queue) -> bool:
    return bool(queue.execute("SELECT FROM workers WHERE batch_deadline_at IS NOT NULL"))


def test_who_can_claim_nothing_stays_who_it_is_and_works_once_there_is_room(
    disk: SmallDisk, database_url: str, redis_url: str
) -> None:
    queue, child = Queue.open(database_url), make_child(database_url, redis_url)
    ids = [queue.submit() for _ in range(200)]
    child.ensure_announced()
    disk.fill()
    who, ended = child.identity.id, ""
    while ended != "no_room":
        # Leases fit into what is free of their table's pages for a while.
        ended = drain(child, queue.echo, Lane.INTERACTIVE).ended
        if ended == "empty":
            ids.append(queue.submit())
    assert child.identity.id == who
    disk.free()
    assert drain(child, queue.echo, Lane.INTERACTIVE).ended == "empty"
    assert queue.execute("SELECT count(*) FROM job_results WHERE status = 'succeeded'") == [(len(ids),)]
    assert queue.execute("SELECT count(*) FROM workers") == [(1,)]
    queue.engine.dispose()
    child.engine.dispose()


def test_what_was_sent_is_not_sent_again_for_want_of_room(
    disk: SmallDisk, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(database_url, redis_url, allow_local_webhooks=True, worker={"linger_s": 0})
    queue, waits, settling = Queue.open(database_url), threading.Event(), deliveries.settle
    parts = {
        "engine": make_engine(settings.database_url, pool_size=4, lookups_only=True),
        "ringer": Ringer(settings.redis_url),
        "identity": WorkerIdentity(
            new_uuid(), "sender/0", "nowhere", 1, "sender", "on_demand", "none", ("webhooks",)
        ),
    }
    sender = Sender(settings=settings, flag=DrainFlag(), **parts)  # type: ignore[arg-type]

    def settle(*arguments: Any) -> Any:
        try:
            return settling(*arguments)
        except NoRoom:
            waits.set()
            raise

    def answer(_: Received) -> web.Response:
        disk.fill()
        return web.Response()

    monkeypatch.setattr(deliveries, "settle", settle)
    with receiver() as hooks:
        hooks.answers["/hook"] = answer
        Outbox(queue, settings).finish(20, webhook=hooks.url(), webhook_events=("completed",))

        def deliver() -> None:
            with suppress(NoRoom):
                sender.deliver()

        sending = threading.Thread(target=deliver)
        sending.start()
        assert waits.wait(20)
        disk.free()
        hooks.answers["/hook"] = 200
        sending.join(30)
        sender.deliver()
        wait_until(lambda: _delivered(queue) == 20, 20, "all to be written down")
        assert len({one.id for one in hooks.received}) == len(hooks.received) == 20
    sender.stop()
    queue.engine.dispose()


def _delivered(queue: Queue) -> int:
    ((count,),) = queue.execute("SELECT count(*) FROM webhook_results WHERE status = 'delivered'")
    return int(count)


def test_retention_makes_room_on_a_full_disk(disk: SmallDisk, database_url: str) -> None:
    queue = Queue.open(database_url)
    for _ in range(200):
        queue.submit(large())
    queue.execute("DELETE FROM job_ready")
    disk.fill()
    with pytest.raises(NoRoom):
        queue.submit(large())
    later = datetime.now(UTC) + timedelta(days=5)
    Prune(queue.engine, retention_days=3, idempotency_hours=24, clock=lambda: later).run_once()
    names = {
        row.relname for row in queue.execute("SELECT relname FROM pg_class WHERE relname LIKE 'jobs_p%'")
    }
    assert partitions.partition_name("jobs", datetime.now(UTC)) not in names
    assert partitions.partition_name("jobs", later + timedelta(days=7)) in names
    queue.engine.dispose()


def test_a_batchs_lines_wait_for_room_and_each_becomes_one_job(
    disk: SmallDisk, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    bulk = Bulk.open(database_url, redis_url, tmp_path / "storage", chunk=8)
    batch_id = bulk.create([line(n, large()) for n in range(30)])
    bulk.step()
    disk.fill()
    for _ in range(4):
        bulk.due(batch_id)
        bulk.step()
    assert (row := bulk.get(batch_id)).status == "in_progress"
    assert row.ingested < 30
    disk.free()
    bulk.due(batch_id)
    assert bulk.finish(batch_id).status == "completed"
    outputs, errors = bulk.outputs(batch_id)
    assert [one["custom_id"] for one in outputs] == [str(n) for n in range(30)]
    assert errors == []
    bulk.close()


def test_copy_and_statements_say_the_same_of_it(disk: SmallDisk, database_url: str) -> None:
    engine = make_engine(SecretStr(database_url))
    with transaction(engine) as connection:
        connection.exec_driver_sql("CREATE TABLE lines (line text)")
        connection.exec_driver_sql("ALTER TABLE lines ALTER line SET STORAGE EXTERNAL")
    disk.fill()

    def by_copy() -> None:
        with transaction(engine) as connection:
            copy_in(connection, "COPY lines FROM STDIN", ["x" * 10_000] * 100)

    def by_statement() -> None:
        with transaction(engine) as connection:
            connection.exec_driver_sql("INSERT INTO lines SELECT repeat('x', 10000)")

    for way in (by_copy, by_statement):
        with pytest.raises(NoRoom, match="disk is full") as refused:
            way()
        assert sqlstate(refused.value) == "53100"
    engine.dispose()
