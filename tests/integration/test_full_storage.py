"""The disk under the file storage, or under a worker's exports, is full: told, waited for, nothing left."""

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.db import upkeep
from app.domain.lanes import Lane
from app.domain.retry import RetryPolicy
from app.errors import NoRoom
from app.storage.local import LocalStorage
from tests.integration.api.conftest import open_api
from tests.support.bulk import Bulk, line
from tests.support.crew import make_child
from tests.support.jobs import Queue
from tests.support.small_disk import SmallDisk, needs_small_disk, small_disk
from workers import outputs
from workers.bulk import spill
from workers.bulk.clerk import AWAY_S
from workers.outputs import Outputs
from workers.pipeline import drain
from workers.runners import exports
from workers.runners.cache import RunnerCache
from workers.runners.local import LocalRunner

pytestmark = needs_small_disk

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 4) as mounted:
        yield mounted


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def nothing_is_left(queue: Queue, folder: Path) -> bool:
    return not left(folder) and queue.execute("SELECT count(*) FROM stray_objects") == [(0,)]


def test_an_upload_is_told_to_come_back_later_and_nothing_is_left_of_it(
    disk: SmallDisk, database_url: str, redis_url: str
) -> None:
    folder = disk.folder / "storage"
    content = b"x" * 200_000
    with open_api(database_url, redis_url, folder) as api:

        def upload() -> Any:
            form = {"purpose": "batch", "file": (io.BytesIO(content), "in.jsonl")}
            return api.post("/v1/files", data=form, headers={"Idempotency-Key": "a-key"})

        disk.fill()
        refused = upload()
        assert (refused.status_code, refused.json["code"]) == (503, "no_room")
        assert refused.json["detail"] == "the file storage is full"
        assert refused.headers["Retry-After"] == "15"
        assert nothing_is_left(api.queue, folder)
        assert 'headrace_no_room_total{service="storage"}' in api.get("/metrics").text
        disk.free()
        stored = upload()
        assert stored.status_code == 200, stored.text
        assert api.get(f"/v1/files/{stored.json['id']}/content").data == content


def test_a_batch_waits_for_room_for_its_output_and_leaves_no_half_file(
    disk: SmallDisk, database_url: str, redis_url: str
) -> None:
    folder = disk.folder / "storage"
    bulk = Bulk.open(database_url, redis_url, folder)
    batch_id = bulk.create([line(n, {"text": "x" * 2000}) for n in range(100)])
    bulk.clerk.bookkeep()
    while bulk.work():
        pass
    before = left(folder)
    disk.fill()
    for _ in range(3):
        bulk.due(batch_id)
        bulk.clerk.bookkeep()
        assert bulk.get(batch_id).status == "finalizing"
        assert left(folder) == before
    assert bulk.queue.execute("SELECT count(*) FROM stray_objects") == [(0,)]
    disk.free()
    bulk.due(batch_id)
    assert bulk.finish(batch_id).status == "completed"
    outputs, errors = bulk.outputs(batch_id)
    assert [one["custom_id"] for one in outputs] == [str(n) for n in range(100)]
    assert errors == []
    bulk.close()


def test_a_batch_with_many_wrong_lines_waits_for_room_for_temporary_files(
    disk: SmallDisk, bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk.folder))
    monkeypatch.setattr(spill, "_IN_MEMORY", 1000)
    batch_id = bulk.create([b"no line"] * 100)
    disk.fill()
    bulk.clerk.bookkeep()
    assert bulk.get(batch_id).status == "validating"
    ((due_in,),) = bulk.queue.execute("SELECT due_at - now() FROM batch_work")
    assert due_in.total_seconds() <= AWAY_S, "it is no bug"
    disk.free()
    bulk.due(batch_id)
    bulk.clerk.bookkeep()
    assert (bulk.get(batch_id).status, len(bulk.errors(batch_id))) == ("failed", 100)


def test_a_job_whose_output_has_no_room_is_run_again_later_and_not_charged(
    disk: SmallDisk, queue: Queue, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outputs, "RETRY_S", 0.01)
    folder, now = disk.folder / "storage", [0.0]

    def clock() -> float:
        now[0] += 10
        return now[0]

    child = make_child(database_url, redis_url)
    child.outputs = Outputs(child.engine, LocalStorage(folder), 100, 1_000_000, 86_400, clock)
    job_id = queue.submit({"text": "x" * 200_000}, retry=ONCE)
    disk.fill()
    drain(child, queue.echo, Lane.INTERACTIVE)
    assert (queue.get(job_id).status, queue.get(job_id).reason) == ("queued", "retry_backoff")
    assert queue.execute("SELECT attempt, crashes, run_at > now() FROM job_deferred") == [(0, 0, True)]
    assert nothing_is_left(queue, folder)
    disk.free()
    queue.execute("UPDATE job_deferred SET run_at = now()")
    upkeep.promote(queue.engine)
    drain(child, queue.echo, Lane.INTERACTIVE)
    assert queue.get(job_id).status == "succeeded"
    child.engine.dispose()


def test_a_model_that_can_not_be_loaded_for_want_of_disk_fails_no_job(
    disk: SmallDisk, queue: Queue, database_url: str, redis_url: str
) -> None:
    def load(spec: Any) -> LocalRunner:
        return _exported(spec, disk.folder / "exports")

    child = make_child(database_url, redis_url, runners=RunnerCache(load, budget_mb=4096))
    job_id = queue.submit(retry=ONCE)
    disk.fill()
    assert drain(child, queue.echo, Lane.INTERACTIVE).ended == "load_failed"
    assert (queue.get(job_id).status, queue.get(job_id).reason) == ("queued", "retry_backoff")
    assert queue.execute("SELECT attempt FROM job_deferred") == [(0,)]
    child.engine.dispose()


def _exported(spec: Any, folder: Path) -> LocalRunner:
    """A load that keeps an export, without the minute that a real one takes."""
    from workers.runners import local

    def apply(*_: Any) -> None:
        exports.kept(folder / "a.onnx", lambda path: path.write_bytes(b"x" * 100_000) and None)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(local.variants, "apply", apply)
        return LocalRunner.load(spec, "cpu")


def test_an_export_that_broke_off_leaves_nothing_and_is_made_once_there_is_room(disk: SmallDisk) -> None:
    path = disk.folder / "a.onnx"

    def make(at: Path) -> None:
        at.write_bytes(b"x" * 3_000_000)

    (disk.folder / "others").write_bytes(b"x" * 2_000_000)
    with pytest.raises(OSError, match="No space"):
        exports.kept(path, make)
    assert {one.name for one in disk.folder.iterdir()} == {"others", "a.lock"}
    (disk.folder / "others").unlink()
    assert exports.kept(path, make).stat().st_size == 3_000_000


def test_a_storage_that_can_only_be_read_says_so(disk: SmallDisk) -> None:
    storage = LocalStorage(disk.folder / "storage")
    with storage.write("a") as writer:
        writer.write(b"here")
    with disk.read_only():
        with pytest.raises(NoRoom, match="only be read"), storage.write("b"):
            pass
        assert b"".join(storage.read("a")) == b"here"
    with storage.write("b"):
        pass
