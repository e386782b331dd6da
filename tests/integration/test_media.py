"""Media is fetched before the model sees it: from real servers, out of a real storage, by a real child."""

import hashlib
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web

from app.db import files as sql
from app.db import rescue, tenants
from app.domain.draining import DrainCause
from app.domain.egress import EgressPolicy
from app.domain.ids import format_id
from app.domain.lanes import Lane
from app.domain.media import MediaPolicy
from app.domain.model import ModelVersion
from app.domain.retry import RetryPolicy
from app.intake import files
from app.settings import Media as MediaSettings
from app.storage import Storage
from app.storage.local import LocalStorage
from app.storage.store import NoStorage
from tests.support.bad_receivers import BadReceivers, bad_receivers
from tests.support.crew import make_child, register
from tests.support.jobs import Queue
from tests.support.receiver import Receiver, receiver
from tests.support.waiting import wait_until
from workers import pipeline
from workers.child import Child
from workers.media import stage
from workers.media.stage import MediaStage
from workers.pipeline import drain

LOCAL = MediaPolicy(EgressPolicy(allow_http=True, allow_loopback=True))
PNG = "data:image/png;base64,iVBORw=="
IMAGE = bytes(range(256)) * 40
ONCE = RetryPolicy(max_attempts=1)

MakeChild = Callable[..., Child]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "storage")


@pytest.fixture
def weigh(queue: Queue) -> ModelVersion:
    return register(queue, "Weigh")


@pytest.fixture
def child_with(queue: Queue, database_url: str, redis_url: str, storage: LocalStorage) -> Iterator[MakeChild]:
    """Makes children: `policy`, `storage` and the settings of media."""
    made: list[Child] = []

    def make(policy: MediaPolicy = LOCAL, storage: Storage = storage, **settings: Any) -> Child:
        child = make_child(database_url, redis_url)
        child.media = MediaStage(child.engine, storage, policy, MediaSettings(**settings))
        made.append(child)
        return child

    yield make
    for child in made:
        child.media.stop()
        child.engine.dispose()


@pytest.fixture
def child(child_with: MakeChild) -> Child:
    return child_with(deadline_s=5, max_bytes=20_000, window_bytes=100_000)


@pytest.fixture(scope="module")
def server() -> Iterator[Receiver]:
    with receiver() as running:
        yield running


@pytest.fixture(scope="module")
def bad() -> Iterator[BadReceivers]:
    with bad_receivers() as running:
        yield running


def serve(server: Receiver, path: str, body: Any = IMAGE, status: int = 200, **headers: str) -> str:
    server.answers[path] = lambda _: web.Response(body=body, status=status, headers=headers)
    return server.url(path)


def file_of(queue: Queue, storage: Storage, content: bytes = IMAGE, tenant_id: int | None = None) -> str:
    tenant_id = queue.tenant_id if tenant_id is None else tenant_id
    row = files.store(queue.engine, storage, tenant_id, "vision", "cat.png", [content])
    return format_id("file", row.id)


def weighing(queue: Queue, version: ModelVersion, media: Any, **more: Any) -> UUID:
    options = {"retry": ONCE, **{key: more.pop(key) for key in ("retry",) if key in more}}
    return queue.submit({"media": media, **more}, version=version, **options)


def run(child: Child, version: ModelVersion) -> list[int]:
    """The sizes of the micro-batches that ran."""
    return drain(child, version, Lane.INTERACTIVE).batches


def error_of(queue: Queue, job_id: UUID) -> tuple[str, str]:
    row = queue.get(job_id)
    assert row.status == "failed", (row.status, row.reason, row.output)
    return row.error["code"], row.error["message"]


def attempts(queue: Queue) -> list[tuple[str, str | None]]:
    return [
        tuple(row) for row in queue.execute("SELECT outcome, error_code FROM job_attempts ORDER BY epoch")
    ]


# What is fetched.


def test_a_model_gets_the_bytes_whichever_way_they_were_named(
    queue: Queue, child: Child, weigh: ModelVersion, storage: LocalStorage, server: Receiver
) -> None:
    serve(server, "/a/cat one.gif", IMAGE[:5000], **{"Content-Type": "image/GIF; x=y"})
    url = server.url("/a/cat%20one.gif")
    file = {"file_id": file_of(queue, storage, IMAGE[:7000])}
    ids = [weighing(queue, weigh, media, more=[None, PNG, file]) for media in (url, file, PNG)]
    assert run(child, weigh) == [3]
    outputs = [queue.output(job_id) for job_id in ids]
    assert [output["sizes"] for output in outputs] == [[5000, 4, 7000], [7000, 4, 7000], [4, 4, 7000]]
    assert outputs[1]["sha256"] == hashlib.sha256(IMAGE[:7000]).hexdigest()
    assert [(output["content_type"], output["filename"]) for output in outputs] == [
        ("image/gif", "cat one.gif"),
        ("image/png", "cat.png"),
        ("image/png", None),
    ]
    assert queue.get(ids[0]).input["media"] == url, "what the client sent is what is kept"


def test_the_server_is_told_who_asks_and_nothing_else(
    queue: Queue, child: Child, weigh: ModelVersion, server: Receiver
) -> None:
    weighing(queue, weigh, serve(server, "/who?key=value&b"))
    server.answers["/who"] = server.answers.pop("/who?key=value&b")
    run(child, weigh)
    (asked,) = server.at("/who")
    assert set(asked.headers) <= {"host", "user-agent", "accept", "accept-encoding"}
    assert asked.headers["user-agent"].startswith("Headrace-Media/")


# What can't be had: it fails alone.


def test_each_that_cannot_be_had_fails_alone_and_says_why(
    queue: Queue,
    child: Child,
    weigh: ModelVersion,
    storage: LocalStorage,
    server: Receiver,
    bad: BadReceivers,
) -> None:
    deleted, foreign = (
        file_of(queue, storage),
        file_of(queue, storage, tenant_id=tenants.ensure(queue.engine, "stranger", actor="test")),
    )
    sql.delete(queue.engine, queue.tenant_id, UUID(deleted.removeprefix("file_")))
    huge = file_of(queue, storage, bytes(20_001))
    redirect = serve(server, "/moved", b"", 302, Location=server.url("/secret"))
    expected: dict[Any, tuple[str, str]] = {
        deleted: ("media_not_found", "there is no such file any more"),
        foreign: ("media_not_found", "there is no such file any more"),
        huge: ("media_too_large", "the job's media have more than 20000 bytes in all"),
        serve(server, "/huge", bytes(20_001)): ("media_too_large", "20000 bytes"),
        serve(server, "/none", b"", 404): ("media_not_found", "its server answered 404"),
        serve(server, "/gone", b"", 410): ("media_not_found", "its server answered 410"),
        serve(server, "/keyed", b"", 401): ("media_fetch_failed", "its server answered 401"),
        serve(server, "/broken", b"", 503): ("media_fetch_failed", "its server answered 503"),
        serve(server, "/nothing", b"", 204): ("media_fetch_failed", "its server answered 204"),
        redirect: ("media_fetch_failed", "answered 302; redirects are not followed"),
        serve(server, "/zip", b"x", **{"Content-Encoding": "gzip"}): (
            "media_fetch_failed",
            "invalid response",
        ),
        bad.refusing: ("media_fetch_failed", "connection refused"),
        "https://10.0.0.1/cat.png": ("media_blocked", "its host is not on the public internet"),
    }
    mate = weighing(queue, weigh, PNG)
    ids = {
        media: weighing(queue, weigh, PNG, more=[media if "://" in media else {"file_id": media}])
        for media in expected
    }
    assert run(child, weigh) == [1]
    for media, (code, message) in expected.items():
        found = error_of(queue, ids[media])
        assert found[0] == code, media
        assert found[1].startswith("/more/0: "), found
        assert message in found[1], found
    assert queue.get(mate).status == "succeeded"
    assert not server.at("/secret")
    assert list(queue.execute("SELECT batch, batch_deadline_at FROM workers")) == [([], None)]


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503])
def test_what_may_pass_is_tried_again(
    queue: Queue, child: Child, weigh: ModelVersion, server: Receiver, status: int
) -> None:
    job_id = weighing(queue, weigh, serve(server, "/busy", b"", status), retry=RetryPolicy(max_attempts=2))
    assert run(child, weigh) == []
    row = queue.get(job_id)
    assert (row.status, row.reason) == ("queued", "retry_backoff")
    assert attempts(queue) == [("error", "media_fetch_failed")]


async def dripping() -> AsyncIterator[bytes]:
    """A body that never ends."""
    forever = threading.Event()
    import asyncio

    while not forever.is_set():
        yield b"x"
        await asyncio.sleep(0.05)


async def endless() -> AsyncIterator[bytes]:
    """More than anybody can hold."""
    while True:
        yield bytes(65_536)


def test_slow_servers_time_out_and_delay_no_one(
    queue: Queue, child_with: MakeChild, weigh: ModelVersion, server: Receiver, bad: BadReceivers
) -> None:
    child = child_with(deadline_s=1.5)
    server.answers["/drip"] = lambda _: web.Response(body=dripping())
    slow = [weighing(queue, weigh, url) for url in (bad.silent, bad.dripping, server.url("/drip"))]
    fast = [weighing(queue, weigh, media) for media in (PNG, serve(server, "/fast"))]
    working = threading.Thread(target=run, args=(child, weigh))
    working.start()
    wait_until(lambda: all(queue.get(job_id).status == "succeeded" for job_id in fast), 10, "the fast ones")
    assert {queue.get(job_id).status for job_id in slow} == {"running"}
    working.join(20)
    for job_id in slow:
        assert error_of(queue, job_id) == ("media_fetch_failed", "/media: was not there in time")


def test_an_endless_body_is_cut_at_the_cap(
    queue: Queue, child: Child, weigh: ModelVersion, server: Receiver
) -> None:
    server.answers["/endless"] = lambda _: web.Response(body=endless())
    job_id = weighing(queue, weigh, server.url("/endless"))
    run(child, weigh)
    assert error_of(queue, job_id)[0] == "media_too_large"


def test_a_body_that_breaks_off_is_not_taken_for_whole(
    queue: Queue, child: Child, weigh: ModelVersion, server: Receiver
) -> None:
    async def half() -> AsyncIterator[bytes]:
        yield IMAGE[:100]
        raise ConnectionResetError

    server.answers["/half"] = lambda _: web.Response(body=half())
    job_id = weighing(queue, weigh, server.url("/half"))
    run(child, weigh)
    assert error_of(queue, job_id) == ("media_fetch_failed", "/media: connection failed")


def test_a_worker_without_a_way_out_takes_files_and_refuses_urls(
    queue: Queue, child_with: MakeChild, weigh: ModelVersion, storage: LocalStorage, server: Receiver
) -> None:
    child = child_with(MediaPolicy(LOCAL.egress, urls=False))
    url = weighing(queue, weigh, serve(server, "/unasked"))
    file = weighing(queue, weigh, {"file_id": file_of(queue, storage)})
    run(child, weigh)
    assert error_of(queue, url)[0] == "media_blocked"
    assert queue.get(file).status == "succeeded"
    assert not server.at("/unasked")


def test_a_storage_that_is_away_is_tried_again(
    queue: Queue, child_with: MakeChild, weigh: ModelVersion, storage: LocalStorage
) -> None:
    retry = RetryPolicy(max_attempts=2)
    away = weighing(queue, weigh, {"file_id": file_of(queue, storage)}, retry=retry)
    run(child_with(storage=NoStorage()), weigh)
    assert queue.get(away).reason == "retry_backoff"
    lost = weighing(queue, weigh, {"file_id": file_of(queue, storage)}, retry=retry)
    (row,) = queue.execute("SELECT tenant_id, id FROM files ORDER BY id DESC LIMIT 1")
    storage.delete(sql.object_key(*row))
    run(child_with(), weigh)
    assert queue.get(lost).reason == "retry_backoff"
    assert attempts(queue) == [("error", "media_fetch_failed"), ("error", "media_not_found")]


# What it must not cost.


def test_what_does_not_fit_waits_and_is_charged_nothing(
    queue: Queue, child_with: MakeChild, weigh: ModelVersion, server: Receiver
) -> None:
    url = serve(server, "/image")
    ids = [weighing(queue, weigh, url) for _ in range(5)]
    assert sum(run(child_with(max_bytes=20_000, window_bytes=25_000), weigh)) == 5
    assert {queue.get(job_id).status for job_id in ids} == {"succeeded"}
    outcomes = [outcome for outcome, _ in attempts(queue)]
    assert outcomes.count("succeeded") == 5
    assert outcomes.count("released") >= 3
    assert set(outcomes) == {"succeeded", "released"}


def test_who_never_came_to_its_turn_is_charged_nothing(
    queue: Queue,
    child_with: MakeChild,
    weigh: ModelVersion,
    bad: BadReceivers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage, "HARVEST_S", 0.05)
    monkeypatch.setattr(stage, "MARGIN_S", 0.1)
    child = child_with(deadline_s=0.4, in_flight=1)
    ids = [weighing(queue, weigh, bad.silent) for _ in range(2)]
    run(child, weigh)
    assert attempts(queue) == [
        ("error", "media_fetch_failed"),
        ("released", None),
        ("error", "media_fetch_failed"),
    ]
    assert {error_of(queue, job_id)[0] for job_id in ids} == {"media_fetch_failed"}


def test_a_child_that_dies_while_it_fetches_makes_no_job_a_suspect(
    queue: Queue, child_with: MakeChild, weigh: ModelVersion, bad: BadReceivers
) -> None:
    child = child_with(deadline_s=600)
    job_id = weighing(queue, weigh, bad.silent)
    working = threading.Thread(target=run, args=(child, weigh))
    working.start()
    wait_until(
        lambda: (
            queue.execute("SELECT batch FROM workers") == [([],)] and queue.get(job_id).status == "running"
        ),
        10,
        "the fetching to begin",
    )
    ((late,),) = queue.execute("SELECT batch_deadline_at > now() + interval '600 seconds' FROM workers")
    assert late, "fetching is not running: the model's deadline does not hold for it"
    queue.execute("UPDATE workers SET heartbeat_at = now() - interval '1 hour'")
    rescue.bury(queue.engine, 30, 5)
    rescue.rescue(queue.engine, child.identity.id, 3)
    assert queue.execute("SELECT crashes, batch_cap FROM job_ready") == [(0, None)]
    assert attempts(queue) == [("lost", None)]
    child._flag.enter(DrainCause.SIGTERM)
    working.join(10)
    assert not working.is_alive()


def test_a_draining_child_gives_up_fetching_and_charges_nothing(
    queue: Queue,
    child_with: MakeChild,
    weigh: ModelVersion,
    bad: BadReceivers,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage, "HARVEST_S", 0.05)
    child = child_with(deadline_s=600)
    job_id = weighing(queue, weigh, bad.silent)
    working = threading.Thread(target=run, args=(child, weigh))
    working.start()
    wait_until(lambda: queue.get(job_id).status == "running", 10, "the claim")
    child._flag.enter(DrainCause.SIGTERM)
    working.join(10)
    assert not working.is_alive()
    row = queue.get(job_id)
    assert (row.status, row.reason) == ("queued", "preempted")
    assert queue.execute("SELECT attempt, crashes FROM job_ready") == [(0, 0)]


def test_a_model_without_media_costs_nothing_more(
    queue: Queue, child: Child, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child.media, "gather", None)
    monkeypatch.setattr(pipeline.workers, "mark", None)
    for n in range(3):
        queue.submit({"n": n, "url": "https://example.com/", "file_id": "file_1"})
    assert drain(child, queue.echo, Lane.INTERACTIVE).batches == [3]


def test_media_in_the_input_itself_is_run_by_the_claims_own_mark(
    queue: Queue, child: Child, weigh: ModelVersion, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline.workers, "mark", None)
    monkeypatch.setattr(child.media, "_fetcher", None)
    ids = [weighing(queue, weigh, PNG) for _ in range(3)]
    assert run(child, weigh) == [3]
    monkeypatch.undo()
    assert {queue.get(job_id).status for job_id in ids} == {"succeeded"}


def test_nothing_that_was_fetched_stays_on_disk(
    queue: Queue,
    child: Child,
    weigh: ModelVersion,
    server: Receiver,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    weighing(queue, weigh, serve(server, "/image"))
    assert run(child, weigh) == [1]
    assert list(tmp_path.rglob("*")) == []
