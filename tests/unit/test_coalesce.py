"""Coalescer: who comes while a call is under way shares the next one; nobody waits in vain."""

import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from app.intake.coalesce import Coalescer
from tests.support.waiting import wait_until


class Held:
    """A run that is held until told, and notes its groups. Negative items fail alone, 0 fails all."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.go = threading.Semaphore(0)

    def __call__(self, items: Sequence[int]) -> list[int | BaseException]:
        self.groups.append(list(items))
        assert self.go.acquire(timeout=10)
        if 0 in items:
            raise LookupError("all")
        return [item * 10 if item > 0 else ValueError(item) for item in items]


@pytest.fixture
def run() -> Held:
    return Held()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(16) as pool:
        yield pool


def call(
    pool: ThreadPoolExecutor, coalescer: "Coalescer[int, int]", items: Sequence[int]
) -> "list[Future[int]]":
    """Call with each item; returns once the first is under way and the others wait, in this order."""
    futures: list[Future[int]] = []

    def in_line() -> bool:
        return coalescer.busy and coalescer.waiting == len(futures) - 1

    for item in items:
        futures.append(pool.submit(coalescer, item))
        wait_until(in_line, 5, "the call to wait")
    return futures


def test_a_call_that_finds_none_under_way_runs_at_once_and_alone(run: Held) -> None:
    coalescer = Coalescer(run, 8)
    run.go.release(2)
    assert [coalescer(1), coalescer(2)] == [10, 20]
    assert run.groups == [[1], [2]]


def test_calls_that_come_meanwhile_share_the_next_in_their_order(run: Held, pool: ThreadPoolExecutor) -> None:
    coalescer = Coalescer(run, 3)
    futures = call(pool, coalescer, [1, 2, 3, 4, 5])
    run.go.release(3)
    assert [future.result(5) for future in futures] == [10, 20, 30, 40, 50]
    assert run.groups == [[1], [2, 3, 4], [5]]
    assert not coalescer.busy


def test_an_item_that_fails_fails_alone(run: Held, pool: ThreadPoolExecutor) -> None:
    futures = call(pool, Coalescer(run, 8), [1, 2, -3, 4])
    run.go.release(2)
    assert [futures[number].result(5) for number in (0, 1, 3)] == [10, 20, 40]
    with pytest.raises(ValueError, match="-3"):
        futures[2].result(5)


def test_a_group_that_fails_fails_for_each_of_its_calls_and_for_no_other(
    run: Held, pool: ThreadPoolExecutor
) -> None:
    coalescer = Coalescer(run, 2)
    futures = call(pool, coalescer, [1, 0, 2, 3])
    run.go.release(3)
    assert [futures[number].result(5) for number in (0, 3)] == [10, 30]
    for number in (1, 2):
        with pytest.raises(LookupError):
            futures[number].result(5)


def test_a_killed_greenlet_keeps_nobody_waiting() -> None:
    """Killed while it waits, killed when it is its turn to lead, and killed while it leads."""
    story = """
from gevent import monkey; monkey.patch_all()
import gevent
from gevent.lock import Semaphore
from app.errors import Unavailable
from app.intake.coalesce import Coalescer

go, groups, doomed = Semaphore(0), [], []

def run(items):
    groups.append(list(items))
    assert go.acquire(timeout=5)
    while doomed: doomed.pop().kill(block=False)  # it dies as soon as it is its turn
    return items

together = Coalescer(run, 2)

def calls(*items):
    groups.clear()
    made = [gevent.spawn(together, item) for item in items]
    gevent.sleep(0)
    assert groups == [[items[0]]] and together.waiting == len(items) - 1
    return made

first, waits, leads, last = calls(1, 2, 3, 4)
waits.kill(block=True)
doomed.append(leads)
go.release(); go.release()
assert last.get(timeout=5) == 4 and not together.busy
assert groups == [[1], [4]], groups

under_way, leader, shares, later = calls(1, 2, 3, 4)
go.release()
while groups[-1] != [2, 3]: gevent.sleep(0)
leader.kill(block=True)
try: shares.get(timeout=5)
except Unavailable: pass
else: raise AssertionError("the group was broken off: nobody knows what became of it")
go.release()
assert later.get(timeout=5) == 4 and not together.busy, groups
"""
    subprocess.run([sys.executable, "-c", story], check=True, timeout=60)
