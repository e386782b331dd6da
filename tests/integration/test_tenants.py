"""Tenants on one queue: shares by weight, quotas that follow a job, keys that are noted, and who did what."""

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.db import audit, keys, models, rescue, tenants, upkeep
from app.db.engine import transaction
from app.db.quotas import Held, held
from app.domain.lanes import Lane
from app.domain.scopes import SCOPES
from app.intake.source import spec_of
from tests.support.bulk import Bulk, line
from tests.support.jobs import Queue, failed
from tests.support.models import ECHO_SPEC, EXAMPLES
from workers.settle import settle


@pytest.fixture
def headracectl(database_url: str, tmp_path: Path) -> Any:
    environ = {
        "HEADRACE_DATABASE_URL": database_url,
        "HEADRACE_REDIS_URL": "redis://nowhere",
        "HEADRACE_SECRET_KEY": "s" * 32,
        "HEADRACE_STATE_DIR": str(tmp_path),
    }

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, list(arguments), env=environ)

    return run


def test_weights_share_the_batch_lane(bulk: Bulk) -> None:
    """1 to 3, within a tenth, at every moment while both have work."""
    tenants.change(bulk.queue.engine, "default", {"weight": 3}, actor="test")
    other = tenants.ensure(bulk.queue.engine, "other", actor="test")
    bulk.create_for_other_tenant([line(n) for n in range(400)])
    bulk.create([line(n) for n in range(400)])
    bulk.clerk.bookkeep()
    worker = bulk.queue.worker(queues=("cpu.batch",))
    for _ in range(5):
        jobs = bulk.queue.claim(worker, 80, Lane.BATCH)
        assert len([job for job in jobs if job.tenant_id == other]) == pytest.approx(20, abs=2)


def test_a_small_batch_does_not_wait_for_a_large_one(bulk: Bulk) -> None:
    bulk.create([line(n) for n in range(2000)])
    bulk.clerk.bookkeep()
    bulk.create_for_other_tenant([line(n) for n in range(50)])
    bulk.clerk.bookkeep()
    worker = bulk.queue.worker(queues=("cpu.batch",))
    other = tenants.ensure(bulk.queue.engine, "other", actor="test")
    # Alone its last job is in the 50th place: not twice as late beside 2,000 others.
    first = bulk.queue.claim(worker, 102, Lane.BATCH)
    assert len([job for job in first if job.tenant_id == other]) == 50


def test_a_job_is_its_tenants_in_every_place(queue: Queue) -> None:
    def now() -> Held:
        return held(queue.engine, [queue.tenant_id])[queue.tenant_id]

    queue.submit()
    assert now() == Held(1, 0)
    worker = queue.worker()
    jobs = queue.claim(worker)
    assert now() == Held(0, 1)
    settle(queue.engine, worker, [failed(job, retryable=True) for job in jobs])
    assert now() == Held(1, 0)
    queue.execute("UPDATE job_deferred SET run_at = now()")
    upkeep.promote(queue.engine)
    assert now() == Held(1, 0)
    queue.claim(worker)
    queue.execute("UPDATE workers SET state = 'stopped'")
    rescue.rescue(queue.engine, worker.id, max_crashes=3)
    assert now() == Held(1, 0)
    other = tenants.ensure(queue.engine, "other", actor="test")
    assert held(queue.engine, [other]) == {other: Held(0, 0)}


def test_operators_make_and_change_tenants_and_it_is_on_record(headracectl: Any, queue: Queue) -> None:
    assert headracectl("tenants", "create", "acme").exit_code == 0
    again = headracectl("tenants", "create", "acme")
    assert (again.exit_code, "already" in again.output) == (1, True)
    changed = headracectl("tenants", "set", "acme", "--weight", "3", "--limit", "queued_jobs=500")
    assert changed.exit_code == 0, changed.output
    shown = {row["name"]: row for row in json.loads(headracectl("tenants", "list", "--json").output)}
    assert (shown["acme"]["weight"], shown["acme"]["queued_jobs"]) == (3, 500)
    assert shown["acme"]["requests_per_minute"] is None
    assert headracectl("tenants", "set", "acme", "--limit", "queued_jobs=default").exit_code == 0
    found = tenants.get(queue.engine, "acme")
    assert found is not None
    assert found["queued_jobs"] is None
    made = json.loads(headracectl("keys", "create", "--tenant", "acme", "--json").output)
    (key,) = [row for row in keys.list_all(queue.engine) if row.id == made["id"]]
    assert set(key.scopes) == set(SCOPES) - {"admin"}, "which is given by name only"
    rotated = headracectl("keys", "rotate", made["id"], "--expires-days", "7")
    assert "Keep it, until 2" in rotated.output
    again = headracectl("keys", "rotate", made["id"])
    assert again.exit_code == 1
    assert again.output.startswith("Error: key_rotated: ")
    assert "`--expires-days`" in again.output
    new = keys.find(queue.engine, rotated.output.split("_")[1])
    assert new is not None
    assert new.expires_at is not None
    assert new.expires_at - new.created_at == pytest.approx(timedelta(days=7), abs=timedelta(minutes=1))
    assert headracectl("keys", "revoke", made["id"]).exit_code == 0
    told = [
        row for row in json.loads(headracectl("audit", "--json").output) if row["actor"].startswith("cli:")
    ]
    assert [row["action"] for row in told] == [
        "keys.revoke",
        "keys.rotate",
        "keys.create",
        "tenants.set",
        "tenants.set",
        "tenants.create",
    ]
    assert told[4]["details"] == {"weight": 3, "queued_jobs": 500}
    assert made["key"].rsplit("_", 1)[1] not in headracectl("audit", "--json").output


def test_a_key_for_a_tenant_that_is_not_there_makes_it_and_that_is_on_record(
    headracectl: Any, queue: Queue
) -> None:
    for _ in range(2):
        assert headracectl("keys", "create", "--tenant", "acme").exit_code == 0
    told = [row for row in audit.latest(queue.engine, 10) if row["actor"].startswith("cli:")]
    assert [row["action"] for row in told] == ["keys.create", "keys.create", "tenants.create"]
    assert told[-1]["subject"] == "acme"


def test_what_a_command_can_not_note_it_does_not_do(
    headracectl: Any, queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line and the action are one transaction."""

    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("no line")

    ours = "tests.support.models"
    other_limits = replace(spec_of(f"{ours}:Double"), max_batch_items=9)
    for spec in (other_limits, replace(ECHO_SPEC, version="2")):
        models.register(queue.engine, spec, actor="test")
    queue.worker(name="a@host/0", pool="one")

    def state() -> list[Any]:
        return [
            queue.execute("SELECT name FROM tenants"),
            queue.execute("SELECT id FROM api_keys"),
            queue.execute("SELECT model, version, max_batch_items FROM model_versions ORDER BY 1, 2"),
            queue.execute("SELECT name, current_version_id FROM models ORDER BY 1"),
            queue.execute("SELECT name, state FROM workers"),
            queue.execute("SELECT count(*) FROM audit_log"),
        ]

    before = state()
    monkeypatch.setattr(audit, "write", broken)
    for command in (
        "keys create --tenant late",
        f"models register {ours}:Slow",
        f"models register --replace {ours}:Double",
        f"models register {EXAMPLES / 'echo.py'}:Echo",
        "models use echo@1",
        "workers drain a@host/0",
        "workers drain --pool one",
    ):
        result = headracectl(*command.split())
        assert "no line" in f"{result.output}{result.exception}", command
        assert state() == before, command
    monkeypatch.undo()
    for command in (
        f"models register --replace {ours}:Double",
        "models use echo@1",
        "workers drain --pool one",
    ):
        for _ in range(2):
            headracectl(*command.split())
    told = [row for row in audit.latest(queue.engine, 10) if row["actor"].startswith("cli:")]
    assert [(row["action"], row["subject"]) for row in told] == [
        ("workers.drain", "pool one"),
        ("models.use", "echo@1"),
        ("models.register", "double@1"),
    ], "a line for each thing that was done, and none for what was so already"
    assert told[-1]["details"] == {"source": f"{ours}:Double", "replace": True}


@pytest.mark.parametrize(
    "options",
    [
        ["--limit", "queued_jobs=-1"],
        ["--limit", "queued=5"],
        ["--limit", "requests_per_minute=2000000"],
        ["--weight", "0"],
        ["--weight", "1001"],
        [],
    ],
)
def test_a_value_that_is_none_is_named(headracectl: Any, options: list[str]) -> None:
    answer = headracectl("tenants", "set", "default", *options)
    assert answer.exit_code == 2
    assert not options or options[0] in answer.output


@pytest.mark.parametrize("command", [("tenants", "create"), ("keys", "create", "--tenant")])
def test_a_name_that_no_url_could_hold_is_refused(
    headracectl: Any, queue: Queue, command: tuple[str, ...]
) -> None:
    done = headracectl(*command, "a/b")
    assert done.exit_code == 1
    assert "'a/b' can't be a tenant's name" in done.output
    assert [tenant["name"] for tenant in tenants.list_all(queue.engine)] == ["default"]


def test_a_tenant_that_is_not_there_can_not_be_changed(headracectl: Any) -> None:
    answer = headracectl("tenants", "set", "nobody", "--weight", "2")
    assert (answer.exit_code, "there is no tenant nobody" in answer.output) == (1, True)


def test_the_use_of_a_key_is_noted_once_a_minute(queue: Queue) -> None:
    keys.insert(
        queue.engine,
        key_id="k",
        tenant_id=queue.tenant_id,
        name="",
        secret_hash=b"",
        scopes=[],
        expires_at=None,
        actor="test",
    )
    keys.note_use(queue.engine, "k")
    found = keys.find(queue.engine, "k")
    assert found is not None
    keys.note_use(queue.engine, "k")
    assert keys.find(queue.engine, "k") == replace(found)
    assert found.last_used_at is not None


def test_the_log_is_narrowed_by_what_was_done(queue: Queue) -> None:
    with transaction(queue.engine) as connection:
        for action in ("keys.create", "keys.revoke", "tenants.set"):
            audit.write(connection, "key:a", action, "x")
    assert [row["action"] for row in audit.latest(queue.engine, 10, "keys")] == ["keys.revoke", "keys.create"]
    assert len(audit.latest(queue.engine, 1)) == 1
