"""Quotas with many tenants: who is far from a limit is counted with everybody, and only then alone."""

import threading
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor

import pytest

from app.db import quotas as sql
from app.db import tenants
from app.db.engine import Engine
from app.db.quotas import Everybody, Held
from app.domain.limits import TenantLimits
from app.errors import TooMany
from app.intake import quotas
from app.intake.authenticate import Principal
from app.intake.census import Census
from app.intake.quotas import Quotas
from app.settings import Limits
from tests.support.jobs import Queue
from tests.support.waiting import wait_until


def test_everybodys_jobs_are_those_that_each_one_has(queue: Queue) -> None:
    other = tenants.ensure(queue.engine, "other", actor="test")
    for tenant_id in (queue.tenant_id, queue.tenant_id, other):
        queue.submit(tenant_id=tenant_id)
    queue.claim(queue.worker(), 1)
    found = sql.held_by_all(queue.engine)
    assert {tenant: (held.queued, held.running) for tenant, held in found.jobs.items()} == {
        tenant: (held.queued, held.running)
        for tenant in (queue.tenant_id, other)
        for held in (sql.held(queue.engine, [tenant])[tenant],)
    }
    assert 0 < found.took_s < 5
    assert sql.to_come(queue.engine, queue.tenant_id) == 0


def test_many_tenants_far_from_their_limit_are_counted_once_together(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, together = counted(monkeypatch, "held"), counted(monkeypatch, "held_by_all")
    checks = Quotas(queue.engine, Limits(), lambda: 1000.0)
    checks.admit(principal(0), 1)
    wait_until(lambda: checks._census.of(0) is not None, 10, "the first count")
    for tenant_id in range(500):
        checks.admit(principal(tenant_id), 1)
    # The first one came before anything was known.
    assert (len(alone), len(together)) == (1, 1)
    assert not checks._counts, "nothing is kept of who is far from a limit"


def test_who_is_close_to_a_limit_is_counted_alone(queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = Quotas(queue.engine, Limits(), lambda: 1000.0)
    checks._census.of(0)
    wait_until(lambda: checks._census.of(0) is not None, 10, "the first count")
    alone = counted(monkeypatch, "held")
    small = principal(queue.tenant_id, TenantLimits(queued_jobs=8))
    for _ in range(8):
        checks.admit(small, 1)
        queue.submit()
    assert alone
    with pytest.raises(TooMany):
        checks.admit(small, 1)


def test_many_who_are_close_to_a_limit_at_once_are_counted_by_few_scans(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each scan reads all that waits, whoever's it is."""
    checks, close = Quotas(queue.engine, Limits(), lambda: 1000.0), TenantLimits(queued_jobs=1)
    begun, let_go, run = threading.Event(), threading.Event(), sql.held
    scans = list[int]()

    def held(engine: Engine, tenant_ids: Collection[int]) -> dict[int, Held]:
        scans.append(len(tenant_ids))
        begun.set()
        assert let_go.wait(20)
        return run(engine, tenant_ids)

    monkeypatch.setattr(quotas.sql, "held", held)
    with ThreadPoolExecutor(40) as pool:
        asked = [pool.submit(checks.admit, principal(1, close), 1)]
        assert begun.wait(20)
        asked += [pool.submit(checks.admit, principal(tenant, close), 1) for tenant in range(2, 40)]
        wait_until(lambda: checks._together.waiting == 38, 20, "the others to wait")
        let_go.set()
        for one in asked:
            one.result(20)
    assert scans == [1, 38]


def test_a_census_says_nothing_before_its_first_count_and_once_none_succeeds() -> None:
    now, waiting = [0.0], list[Callable[[], None]]()
    census = Census(lambda: Everybody({1: Held(5, 2)}), lambda: now[0], waiting.append)
    assert census.of(1) is None
    census.note(1, 3)  # while it is counted: it may be in the count or not
    waiting.pop()()
    known = census.of(1)
    assert known is not None
    assert (known.held, known.since) == (Held(5, 2), 3)
    now[0] += 10
    assert census.of(2) is not None
    assert len(waiting) == 1, "who asks does not wait for the next one"
    now[0] += 30
    assert census.of(2) is None


def principal(tenant_id: int, limits: TenantLimits | None = None) -> Principal:
    return Principal("key", tenant_id, "tenant", frozenset(), limits or TenantLimits())


def counted(monkeypatch: pytest.MonkeyPatch, name: str) -> list[str]:
    """A list that gets longer each time that this statement is run."""
    calls, run = list[str](), getattr(quotas.sql, name)

    def noted(*arguments: object) -> object:
        calls.append(name)
        return run(*arguments)

    monkeypatch.setattr(quotas.sql, name, noted)
    return calls
