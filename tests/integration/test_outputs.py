"""Large outputs become files, by settle's own statement: there is one if, and only if, its job names it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest

from app.db import cancel, erase, settle
from app.db import files as sql
from app.domain.ids import format_id, parse_id
from app.domain.lanes import Lane
from app.domain.retry import RetryPolicy
from app.errors import Unavailable
from app.intake import files
from app.storage import Writer
from app.storage.local import LocalStorage
from app.storage.store import NoStorage
from tests.support.crew import make_child
from tests.support.jobs import Queue
from workers import outputs, pipeline
from workers.child import Child
from workers.maintenance.prune import PruneFiles
from workers.outputs import Outputs
from workers.pipeline import drain

INLINE = 262_144
TWICE = RetryPolicy(max_attempts=2, initial_delay_ms=60_000)


class FlakyStorage(LocalStorage):
    """A storage that is away for a while."""

    away = 0
    """How many writes fail from now on."""

    @contextmanager
    def write(self, key: str) -> Iterator[Writer]:
        if self.away:
            self.away -= 1
            raise Unavailable("away")
        with super().write(key) as writer:
            yield writer


@pytest.fixture
def storage(tmp_path: Path) -> FlakyStorage:
    return FlakyStorage(tmp_path / "storage")


@pytest.fixture
def child(queue: Queue, database_url: str, redis_url: str, storage: FlakyStorage) -> Iterator[Child]:
    made = make_child(database_url, redis_url)
    made.outputs = Outputs(made.engine, storage, INLINE, 1_000_000, keep_s=86_400)
    yield made
    made.engine.dispose()


def echoing(queue: Queue, size: int, **options: Any) -> UUID:
    """A job whose output is JSON of this size."""
    empty = len(orjson.dumps({"text": ""}))
    return queue.submit({"text": "x" * (size - empty)}, **options)


def run(queue: Queue, child: Child) -> None:
    drain(child, queue.echo, Lane.INTERACTIVE)


def stored(storage: FlakyStorage) -> list[Path]:
    root: Path = storage._root
    return [path for path in root.rglob("*") if path.is_file()]


def rows(queue: Queue) -> list[Any]:
    return list(queue.execute("SELECT *, expires_at - created_at AS kept FROM files ORDER BY id"))


def nothing_is_left(queue: Queue, storage: FlakyStorage) -> bool:
    return (stored(storage), rows(queue), queue.execute("SELECT key FROM stray_objects")) == ([], [], [])


def test_an_output_over_the_limit_is_a_file_and_the_job_names_it(
    queue: Queue, child: Child, storage: FlakyStorage
) -> None:
    at_the_limit, over = echoing(queue, INLINE), echoing(queue, INLINE + 1)
    mate = queue.submit({"n": 1})
    run(queue, child)
    assert len(queue.output(at_the_limit)["text"]) == INLINE - 11
    assert queue.output(mate) == {"n": 1}
    (file,) = rows(queue)
    assert queue.output(over) == {
        "file_id": format_id("file", file.id),
        "size": INLINE + 1,
        "sha256": file.sha256.hex(),
    }
    content = b"".join(files.content(storage, file))
    assert orjson.loads(content) == queue.get(over).input
    assert (file.tenant_id, file.purpose, file.bytes) == (queue.tenant_id, "job_output", INLINE + 1)
    assert (file.filename, file.kept.total_seconds()) == (f"{format_id('job', over)}.json", 86_400)
    assert queue.execute("SELECT key FROM stray_objects") == []
    assert list(queue.execute("SELECT batch, batch_deadline_at FROM workers")) == [([], None)]


def test_without_a_storage_it_stays_where_it_is(queue: Queue, child: Child) -> None:
    child.outputs = Outputs(child.engine, NoStorage(), INLINE, 1_000_000, 1)
    job_id = echoing(queue, INLINE + 1)
    run(queue, child)
    assert len(queue.output(job_id)["text"]) == INLINE - 10


def test_an_output_that_no_file_may_be_as_large_as_fails(
    queue: Queue, child: Child, storage: FlakyStorage
) -> None:
    job_id, mate = echoing(queue, 1_000_001), queue.submit()
    run(queue, child)
    assert queue.get(job_id).error == {
        "code": "output_too_large",
        "message": "the output has 1000001 bytes as JSON, and 1000000 is the most",
    }
    assert queue.get(mate).status == "succeeded"
    assert nothing_is_left(queue, storage)


def test_a_zombies_output_leaves_nothing(
    queue: Queue, child: Child, storage: FlakyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = echoing(queue, INLINE + 1)
    before = pipeline.settle

    def late(*arguments: Any) -> Any:
        if arguments[2]:
            assert len(stored(storage)) == 1
            queue.execute("UPDATE job_leases SET epoch = epoch + 1000000")
        return before(*arguments)

    monkeypatch.setattr(pipeline, "settle", late)
    run(queue, child)
    assert queue.get(job_id).status == "running"
    assert nothing_is_left(queue, storage)


def test_a_canceled_jobs_output_leaves_nothing(
    queue: Queue, child: Child, storage: FlakyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = echoing(queue, INLINE + 1)
    before = pipeline.infer

    def canceled(*arguments: Any) -> Any:
        cancel.cancel(queue.engine, job_id)
        return before(*arguments)

    monkeypatch.setattr(pipeline, "infer", canceled)
    run(queue, child)
    assert queue.get(job_id).status == "canceled"
    assert nothing_is_left(queue, storage)


def test_a_commit_that_was_not_heard_of_keeps_its_file(
    queue: Queue, child: Child, storage: FlakyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = echoing(queue, INLINE + 1)
    before = pipeline.settle
    unheard = iter([True])

    def settled(*arguments: Any) -> Any:
        answer = before(*arguments)
        if answer and next(unheard, False):
            raise Unavailable("the connection broke")
        return answer

    monkeypatch.setattr(pipeline, "settle", settled)
    monkeypatch.setattr(pipeline, "SETTLE_RETRY_S", 0.01)
    run(queue, child)
    (file,) = rows(queue)
    assert queue.output(job_id)["file_id"] == format_id("file", file.id)
    assert len(stored(storage)) == 1


def test_a_child_that_is_killed_in_between_leaves_a_row_that_says_what_to_remove(
    queue: Queue, child: Child, storage: FlakyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    echoing(queue, INLINE + 1)

    def killed(*_: Any) -> None:
        raise SystemExit

    monkeypatch.setattr(settle, "_files", killed)
    monkeypatch.setattr(Outputs, "clean", lambda *_: None)
    with pytest.raises(SystemExit):
        run(queue, child)
    assert len(stored(storage)) == 1
    assert rows(queue) == []
    queue.execute("UPDATE stray_objects SET due_at = now()")
    PruneFiles(queue.engine, storage).run_once()
    assert nothing_is_left(queue, storage)


def test_a_storage_that_comes_back_has_lost_nothing(
    queue: Queue, child: Child, storage: FlakyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "RETRY_S", 0.01)
    storage.away = 3
    job_id = echoing(queue, INLINE + 1)
    run(queue, child)
    assert queue.get(job_id).status == "succeeded"
    assert len(stored(storage)) == len(rows(queue)) == 1
    assert queue.execute("SELECT key FROM stray_objects") == []


def test_a_storage_that_stays_away_costs_an_attempt_and_delays_no_one(
    queue: Queue, child: Child, storage: FlakyStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = threading.Event()
    now = 0.0

    def clock() -> float:
        nonlocal now
        now += 10
        if asked.is_set():
            return now
        asked.set()
        assert queue.get(mate).status == "succeeded", "the others are settled before"
        assert queue.execute("SELECT batch FROM workers") == [([],)], "nothing is in hand"
        return now

    monkeypatch.setattr(outputs, "RETRY_S", 0.01)
    child.outputs = Outputs(child.engine, storage, INLINE, 1_000_000, 1, clock)
    storage.away = 1000
    job_id, mate = echoing(queue, INLINE + 1, retry=TWICE), queue.submit()
    run(queue, child)
    assert now <= child.settings.lease_ttl_s + 10
    row = queue.get(job_id)
    assert (row.status, row.reason) == ("queued", "retry_backoff")
    assert queue.execute("SELECT error_code FROM job_attempts WHERE outcome = 'error'") == [
        ("output_not_stored",)
    ]
    assert nothing_is_left(queue, storage)


def test_erasing_a_job_erases_its_outputs_file(queue: Queue, child: Child, storage: FlakyStorage) -> None:
    first, other = echoing(queue, INLINE + 1), echoing(queue, INLINE + 2)
    run(queue, child)
    kept = parse_id("file", queue.output(other)["file_id"])
    for _ in range(2):
        erased = erase.erase(queue.engine, queue.tenant_id, first)
        assert erased is not None
    assert [file.id for file in rows(queue)] == [kept]
    PruneFiles(queue.engine, storage).run_once()
    assert [path.name for path in stored(storage)] == [kept.hex]


def test_a_model_that_answers_with_a_files_name_does_not_own_it(
    queue: Queue, child: Child, storage: FlakyStorage
) -> None:
    large = echoing(queue, INLINE + 1)
    run(queue, child)
    upload = files.store(queue.engine, storage, queue.tenant_id, "user_data", "mine.txt", [b"mine"])
    stubs: list[Any] = [
        queue.output(large),
        {"file_id": format_id("file", upload.id), "size": 4, "sha256": ""},
        {"file_id": 7},
        {"file_id": None},
        {"text": "\0", "file_id": "file_"},
    ]
    for stub in stubs:
        job_id = queue.submit(stub)
        run(queue, child)
        assert queue.output(job_id) == stub
        assert erase.erase(queue.engine, queue.tenant_id, job_id) == erase.Erased()
    assert len(rows(queue)) == 2
    assert sql.get(queue.engine, queue.tenant_id, upload.id) is not None
