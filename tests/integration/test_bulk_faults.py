"""A clerk is killed before any of its statements; whoever takes over loses no line and doubles none."""

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from sqlalchemy import event

from app.db import batch_items, batch_work, conservation
from app.db.files import object_key
from app.domain.draining import DrainCause
from app.errors import Unavailable
from tests.support.bulk import ENDED, Bulk, line
from workers.bulk.clerk import Clerk

NOBODY = "redis://127.0.0.1:1/0"


class Killed(BaseException):
    """Nothing of ours catches it, and nothing is written after it."""


@pytest.fixture
def small(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Bulk]:
    opened = Bulk.open(database_url, redis_url, tmp_path / "storage", chunk=8)
    yield opened
    opened.close()


def killed_at(clerk: Clerk, statement: int) -> Callable[[], int]:
    """Let the clerk die before its statement of this number; the answer tells how many it began."""
    count = itertools.count(1)
    begun = 0

    @event.listens_for(clerk.engine, "before_cursor_execute")
    def before(*_: Any) -> None:
        nonlocal begun
        begun = next(count)
        if begun >= statement:
            raise Killed

    return lambda: begun


def run(bulk: Bulk, clerk: Clerk, batch_id: UUID) -> None:
    """Clerk and worker in turn until the batch ends or the clerk is killed, and what a dead clerk held is
    rescued again and again, as the scheduler does: its session may lock the row for a moment after it.
    """
    while bulk.get(batch_id).status not in ENDED:
        batch_work.rescue(bulk.queue.engine)
        clerk.bookkeep()
        if not bulk.work():
            bulk.due(batch_id)


def lines() -> list[Any]:
    made: list[Any] = [line(n, {"fail": n == 5}, retry={"max_attempts": 1}) for n in range(20)]
    return [*made[:9], b"nonsense", *made[9:]]


def check(bulk: Bulk, batch_id: UUID) -> None:
    row = bulk.get(batch_id)
    assert (row.status, row.total, row.ingested, row.invalid) == ("completed", 20, 20, 1)
    output, error = bulk.outputs(batch_id)
    assert [one["custom_id"] for one in output] == [str(n) for n in range(20) if n != 5]
    assert [one["custom_id"] for one in error] == ["5", None]
    assert bulk.counts(batch_id) == {"succeeded": 19, "failed": 1, "canceled": 0, "expired": 0}
    made = bulk.queue.execute("SELECT id FROM files WHERE batch_id = :id", id=batch_id)
    assert {one.id for one in made} == {row.output_file_id, row.error_file_id}
    assert bulk.queue.execute(
        "SELECT count(*) FROM webhook_deliveries WHERE batch_id = :id", id=batch_id
    ) == [(1,)]


def test_a_clerk_killed_before_any_statement_is_followed_by_one_that_finishes(small: Bulk) -> None:
    victim = small.new_clerk()
    begun = killed_at(victim, 10**9)
    batch_id = small.create(lines(), on_invalid="skip", webhook="https://example.com/b")
    run(small, victim, batch_id)
    check(small, batch_id)
    total = begun()
    assert total > 30
    for statement in range(2, total + 1):
        victim = small.new_clerk()
        killed_at(victim, statement)
        batch_id = small.create(lines(), on_invalid="skip", webhook="https://example.com/b")
        with pytest.raises(Killed):
            run(small, victim, batch_id)
        victim.engine.dispose()
        small.queue.execute("UPDATE workers SET state = 'dead', cause = 'crashed' WHERE name = 'clerk/0'")
        heir = small.new_clerk()
        run(small, heir, batch_id)
        heir.engine.dispose()
        check(small, batch_id)
    assert not conservation.check(small.queue.engine).violations
    assert not small.queue.execute("SELECT FROM batch_work")


def test_a_storage_that_is_away_delays_a_batch_and_fails_none(
    bulk: Bulk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any) -> Any:
        raise Unavailable("the file storage can't be used")

    batch_id = bulk.create([line(1)])
    with monkeypatch.context() as patch:
        patch.setattr(bulk.storage, "read", away)
        assert bulk.clerk.bookkeep().failures == 1
    assert bulk.get(batch_id).status == "validating"
    bulk.due(batch_id)
    bulk.clerk.bookkeep()
    bulk.work()
    with monkeypatch.context() as patch:
        patch.setattr(bulk.storage, "write", away)
        bulk.clerk.bookkeep()
    assert bulk.get(batch_id).status == "finalizing"
    bulk.due(batch_id)
    assert bulk.finish(batch_id).status == "completed"


def test_a_batch_needs_no_redis(database_url: str, tmp_path: Path) -> None:
    deaf = Bulk.open(database_url, NOBODY, tmp_path / "storage", chunk=8)
    batch_id = deaf.create(lines(), on_invalid="skip", webhook="https://example.com/b")
    run(deaf, deaf.clerk, batch_id)
    check(deaf, batch_id)
    deaf.close()


def test_a_batch_waits_a_day_beyond_its_time_for_a_file_that_the_storage_lost(small: Bulk) -> None:
    unread, begun = (small.create([line(n) for n in range(20)]) for _ in range(2))
    small.queue.execute("UPDATE batch_work SET due_at = 'infinity' WHERE batch_id = :id", id=unread)
    clerk = small.hurried_clerk()
    while not small.get(begun).ingested:
        small.step(clerk)
    for batch_id in (unread, begun):
        small.storage.delete(object_key(small.queue.tenant_id, small.get(batch_id).input_file_id))
    for hours, statuses in ((23, ["validating", "in_progress"]), (25, ["failed", "in_progress"])):
        small.queue.execute("UPDATE batches SET expires_at = now() - make_interval(hours => :h)", h=hours)
        small.queue.execute("UPDATE batch_work SET due_at = now()")
        small.clerk.bookkeep()
        assert [small.get(batch_id).status for batch_id in (unread, begun)] == statuses
    row = small.finish(begun)
    assert (row.status, row.total) == ("failed", 8)
    output, _ = small.outputs(begun)
    assert [one["custom_id"] for one in output] == [str(n) for n in range(8)]
    assert [small.errors(batch_id) for batch_id in (unread, begun)] == [[(0, "file_not_found")]] * 2


def test_a_bug_in_one_batch_is_no_harm_to_the_others(bulk: Bulk, monkeypatch: pytest.MonkeyPatch) -> None:
    from workers.bulk import clerk

    broken, fine = bulk.create([line(1)]), bulk.create([line(2)])
    before = clerk.validate

    def buggy(desk: Any, lease: Any, batch: Any) -> Any:
        if batch.id == broken:
            raise ZeroDivisionError
        return before(desk, lease, batch)

    monkeypatch.setattr(clerk, "validate", buggy)
    assert bulk.finish(fine).status == "completed"
    assert bulk.get(broken).status == "validating"


def test_a_clerk_that_is_to_stop_leaves_a_long_file_to_the_next(bulk: Bulk) -> None:
    batch_id = bulk.create([line(n) for n in range(5)])
    bulk.clerk._flag.enter(DrainCause.SIGTERM)
    assert bulk.clerk.bookkeep().ended == "draining"
    lease = bulk.claim()
    bulk.clerk._get_on(lease)
    assert bulk.get(batch_id).status == "validating"
    assert batch_work.any_due(bulk.queue.engine)
    assert bulk.clerk.ringer.rung("batches")


def test_large_lines_behind_small_ones_are_few_at_a_time(bulk: Bulk) -> None:
    """Whoever counted lines alone would hold all hundred large ones."""
    lines = [line(n, {"n": n, "text": "x" * 200_000 if n >= 150 else ""}) for n in range(250)]
    batch_id = bulk.create(lines)
    clerk, written = bulk.hurried_clerk(), [0]
    while written[-1] < 250:
        bulk.step(clerk)
        written.append(bulk.get(batch_id).ingested)
    assert max(after - before for before, after in pairwise(written[2:])) < 50
    pages: list[int] = []

    @event.listens_for(bulk.queue.engine, "after_cursor_execute")
    def after(_: Any, cursor: Any, *__: Any) -> None:
        pages.append(cursor.rowcount)

    asked = batch_items.requests(bulk.queue.engine, bulk.get(batch_id))
    assert [row.custom_id for row in asked] == [str(n) for n in range(250)]
    bulk.finish(batch_id)
    del pages[:]
    items = list(batch_items.items(bulk.queue.engine, batch_id))
    assert [len(row.output) > 200_000 for row in items] == [n >= 150 for n in range(250)]
    assert pages[0] == 100
    assert sum(pages) == 250
    assert max(pages[1:]) < 80


def test_a_hundred_thousand_lines_take_little_memory(bulk: Bulk) -> None:
    def many() -> bytes:
        return b"".join(
            b'{"custom_id":"%d","method":"POST","url":"/v1/jobs","body":{"model":"echo","input":{"n":%d}}}\n'
            % (n, n)
            for n in range(100_000)
        )

    batch_id = bulk.create(many())
    process, most, done = psutil.Process(os.getpid()), [0], threading.Event()
    before = process.memory_info().rss

    def watch() -> None:
        while not done.wait(0.02):
            most[0] = max(most[0], process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        while bulk.get(batch_id).ingested < 100_000:
            bulk.clerk.bookkeep()
        bulk.queue.execute(
            "WITH gone AS (DELETE FROM job_ready RETURNING job_id) INSERT INTO job_results"
            " (job_id, status, output) SELECT job_id, 'succeeded', '[1]' FROM gone"
        )
        bulk.queue.execute(
            "INSERT INTO batch_tallies (batch_id, succeeded, failed, canceled, expired)"
            " VALUES (:id, 100000, 0, 0, 0)",
            id=batch_id,
        )
        while bulk.get(batch_id).status != "completed":
            bulk.clerk.bookkeep()
    finally:
        done.set()
        watching.join()
    assert most[0] - before < 150 * 2**20
