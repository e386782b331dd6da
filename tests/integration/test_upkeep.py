"""Periodic work: promote, expire, sweep, prune, and one scheduler at a time."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import TextClause, text

from app.broker.ring import FLAG_TTL_MS, Ringer, doorbell_for
from app.db import conservation, models, partitions, rescue, upkeep, workers
from app.db.engine import make_engine, transaction
from app.domain.ids import boundary
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from app.errors import NoRoom
from tests.support.jobs import Queue, failed, succeeded
from workers.maintenance.expire import Expire
from workers.maintenance.promote import Promote
from workers.maintenance.prune import Prune
from workers.maintenance.rescue import Rescue
from workers.maintenance.scheduler import LOCK, Every, Scheduler
from workers.maintenance.sweep import Sweep
from workers.notify import Notifier
from workers.settle import settle


def test_promote_moves_only_what_is_due(queue: Queue) -> None:
    worker = queue.worker()
    for _ in range(3):
        queue.submit()
    settle(queue.engine, worker, [failed(job, retryable=True) for job in queue.claim(worker)])
    assert Promote(queue.engine).run_once() == 0
    queue.execute(
        "UPDATE job_deferred SET run_at = now() WHERE job_id IN (SELECT job_id FROM job_deferred LIMIT 2)"
    )
    assert Promote(queue.engine).run_once() == 2
    assert conservation.check(queue.engine).counts == {
        "jobs": 3,
        "ready": 2,
        "deferred": 1,
        "leased": 0,
        "results": 0,
    }


def test_expire_ends_what_waited_too_long_wherever_it_waits(queue: Queue, redis_url: str) -> None:
    worker = queue.worker()
    deferred, ready, fresh = (queue.submit() for _ in range(3))
    settle(queue.engine, worker, [failed(queue.claim(worker, 1)[0], retryable=True)])
    for place in ("job_ready", "job_deferred"):
        queue.execute(f"UPDATE {place} SET expires_at = now() WHERE job_id <> :fresh", fresh=fresh)
    assert Expire(queue.engine, Notifier(SecretStr(redis_url))).run_once() == 2
    assert [queue.get(job_id).status for job_id in (deferred, ready, fresh)] == [
        "expired",
        "expired",
        "queued",
    ]
    assert not conservation.check(queue.engine).violations


def test_sweep_rings_for_what_waits_and_nothing_else(queue: Queue, redis_url: str) -> None:
    ringer = Ringer(SecretStr(redis_url))
    sweep = Sweep(queue.engine, ringer, slice_s=5.0)
    assert sweep.run_once() == 0
    assert ringer.waiting("cpu.interactive") == 0
    queue.submit()
    queue.submit(lane=Lane.BATCH)
    assert sweep.run_once() == 2
    assert (ringer.waiting("cpu.interactive"), ringer.waiting("cpu.batch")) == (1, 1)
    sweep.run_once()
    assert ringer.waiting("cpu.interactive") == 1, "a bell that waits is not rung twice"


def test_bells_do_not_pile_up_when_nobody_listens(queue: Queue, redis_url: str) -> None:
    queue.submit()
    ringer = Ringer(SecretStr(redis_url))
    for _ in range(20):
        Sweep(queue.engine, ringer, slice_s=5.0).run_once()
        forget_flags(redis_url)
    assert ringer.waiting("cpu.interactive") == 1


def test_a_rare_versions_bell_is_behind_one_of_each_busy_version(queue: Queue, redis_url: str) -> None:
    """However long they have been busy. Its job is tried again: the sweep alone rings for it."""
    ringer = Ringer(SecretStr(redis_url))
    busy = [doorbell_for(a_version(queue, f"busy-{number}"), Lane.INTERACTIVE) for number in range(100)]
    with redis.Redis.from_url(redis_url) as client:
        for _ in range(10):
            for bell in busy:
                ringer.ring(bell)
            forget_flags(redis_url)
            client.rpop("cpu.interactive", 30)
        queue.submit()
        Sweep(queue.engine, ringer, slice_s=5.0).run_once()
        waiting = client.lrange("cpu.interactive", 0, -1)
    assert len(waiting) <= 101
    assert b"echo" in waiting[0]


def test_what_was_taken_from_the_queue_is_rung_for_again(queue: Queue, redis_url: str) -> None:
    """Whoever took it may have died: after the flag's life there is another message."""
    ringer, bell = Ringer(SecretStr(redis_url)), doorbell_for(queue.echo, Lane.INTERACTIVE)
    with redis.Redis.from_url(redis_url) as client:
        ringer.ring(bell)
        assert client.rpop(bell.queue)
        ringer.ring(bell)
        assert ringer.waiting(bell.queue) == 0, "it is on its way"
        assert 0 < client.pttl(f"bell:{bell.queue}:{bell.key}") <= FLAG_TTL_MS
        forget_flags(redis_url)
        ringer.ring(bell)
        assert ringer.waiting(bell.queue) == 1
        # As a child that ends gives back what it took and did not begin.
        client.rpush(bell.queue, "another release's")
        client.rpop(bell.queue, 2)
        forget_flags(redis_url)
        ringer.ring(bell)
    assert ringer.waiting(bell.queue) == 1


def forget_flags(redis_url: str) -> None:
    """As time does."""
    with redis.Redis.from_url(redis_url) as client:
        for flag in client.scan_iter("bell:*"):
            client.delete(flag)


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        (upkeep._WAITING, {}),
        (upkeep._AGE, {"after_s": 300.0, "limit": 1000}),
        (rescue._ORPHANED, {}),
    ],
    ids=["sweep", "age", "rescue"],
)
def test_what_runs_every_second_does_not_read_all_that_waits_or_runs(
    queue: Queue, database_url: str, statement: TextClause, named: dict[str, Any]
) -> None:
    """By the scheduler's planner, which may scan. Three versions have work, and a thousand have none."""
    queue.execute(
        """
        INSERT INTO model_versions (model, version, source, source_sha256, device, unit, max_batch_items,
                                    execution_timeout_s, memory_mb, input_schema, output_schema)
        SELECT 'model-' || n, '1', '', '', 'cpu', 'item', 1, 1, 1, '{}', '{}' FROM generate_series(1, 1000) n
        """
    )
    queue.execute(
        """
        INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at)
        SELECT gen_random_uuid(), :echo + n % 3, 0, 1, n, now() + interval '1 day'
          FROM generate_series(1, 20000) n
        """,
        echo=queue.echo.id,
    )
    queue.execute(
        """
        INSERT INTO job_leases (job_id, version_id, lane, priority, rank, expires_at, epoch, worker_id)
        SELECT job_id, version_id, lane, priority, rank, expires_at, rank,
               CAST(lpad(CAST(rank % 5 AS text), 32, '0') AS uuid)
          FROM job_ready
        """
    )
    queue.execute("ANALYZE job_ready, job_leases, model_versions, workers")
    scheduler = make_engine(SecretStr(database_url))
    with scheduler.connect() as connection:
        explain = text(f"EXPLAIN (ANALYZE, FORMAT JSON) {statement.text}")
        (plan,) = connection.execute(explain, named).one()[0]
    scheduler.dispose()
    read = sum(rows_read(plan["Plan"], {"job_ready", "job_leases"}))
    assert read <= 10


def rows_read(node: dict[str, Any], tables: set[str]) -> Iterator[float]:
    """How many rows each scan of these tables read."""
    if node.get("Relation Name") in tables:
        yield node["Actual Loops"] * (node["Actual Rows"] + node.get("Rows Removed by Filter", 0))
    for child in node.get("Plans", ()):
        yield from rows_read(child, tables)


def a_version(queue: Queue, name: str) -> ModelVersion:
    models.register(queue.engine, replace(queue.echo.spec, name=name), actor="test")
    version = models.find(queue.engine, name, None)
    assert version is not None
    return version


def test_a_bell_carries_no_tenant_data(queue: Queue, redis_url: str) -> None:
    ringer = Ringer(SecretStr(redis_url))
    queue.submit({"secret": "planted-payload"}, metadata={"who": "planted-metadata"})
    ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
    with redis.Redis.from_url(redis_url) as client:
        (message,) = client.lrange("cpu.interactive", 0, -1)
    assert b"planted" not in message
    assert b"echo" in message


def test_only_one_scheduler_works_at_a_time(queue: Queue) -> None:
    runs: list[str] = []

    def scheduler(name: str) -> Scheduler:
        return Scheduler(queue.engine, [Every("note", 0, lambda: runs.append(name) or 0)], 1.0)

    with upkeep.only_one(queue.engine, LOCK) as ours:
        assert ours
        assert scheduler("second").tick() == {}
    assert scheduler("first").tick() == {"note": 0}
    assert runs == ["first"]


def test_a_failing_service_stops_no_other_and_each_keeps_its_own_time(queue: Queue) -> None:
    now = [0.0]
    done: list[str] = []

    def broken() -> int:
        raise ZeroDivisionError

    services = [
        Every("broken", 1, broken),
        Every("often", 1, lambda: done.append("often") or 0),
        Every("seldom", 10, lambda: done.append("seldom") or 0),
    ]
    scheduler = Scheduler(queue.engine, services, 1.0, clock=lambda: now[0])
    scheduler.tick()
    now[0] = 1.0
    scheduler.tick()
    assert done == ["often", "seldom", "often"]


def test_rescue_service_brings_back_what_a_silent_worker_held(queue: Queue, redis_url: str) -> None:
    job_id, worker = queue.submit(), queue.worker()
    queue.claim(worker)
    now = [0.0]
    service = Rescue(queue.engine, Notifier(SecretStr(redis_url)), 30, 3, clock=lambda: now[0])
    assert service.run_once() == 0
    now[0] += 10
    queue.execute("UPDATE workers SET heartbeat_at = now() - interval '40 s'")
    assert service.run_once() == 1
    assert service.run_once() == 0
    assert queue.get(job_id).status == "queued"


def test_after_an_outage_those_who_live_may_speak_before_anybody_is_declared_dead(
    queue: Queue, redis_url: str
) -> None:
    """Nobody could say "still here" meanwhile, and what had run could not be settled."""
    now = [0.0]
    service = Rescue(queue.engine, Notifier(SecretStr(redis_url)), 30, 3, clock=lambda: now[0])
    ids = [queue.submit() for _ in range(2)]
    live, dead = queue.worker(), queue.worker()
    (ran,) = queue.claim(live, 1)
    queue.claim(dead, 1)
    now[0] = 10
    assert service.run_once() == 0
    queue.execute(
        "UPDATE workers SET heartbeat_at = now() - interval '1 minute',"
        " batch_deadline_at = now() - interval '1 minute'"
    )
    now[0] = 70
    assert service.run_once() == 0
    workers.heartbeat(queue.engine, live.id, {})
    settle(queue.engine, live, [succeeded(ran)])
    now[0] = 75
    assert service.run_once() == 0
    now[0] = 80
    assert service.run_once() == 1
    assert queue.execute("SELECT id FROM workers WHERE state = 'dead'") == [(dead.id,)]
    assert {queue.get(job_id).status for job_id in ids} == {"succeeded", "queued"}


def test_a_service_that_finds_no_room_does_not_keep_the_others_from_making_some(queue: Queue) -> None:
    done: list[str] = []

    def full() -> int:
        raise NoRoom("the disk is full")

    services = [Every("full", 1, full), Every("prune", 1, lambda: done.append("prune") or 0)]
    scheduler = Scheduler(queue.engine, services, 1.0)
    with pytest.raises(NoRoom):
        scheduler.tick()
    assert done == ["prune"]


def names(queue: Queue) -> set[str]:
    return {name for (name,) in queue.execute("SELECT relname FROM pg_class WHERE relname ~ '_p[0-9]{8}$'")}


def test_prune_makes_the_days_ahead_and_drops_the_days_past_retention(queue: Queue) -> None:
    today = datetime.now(UTC)
    clock: list[datetime] = [today]
    prune = Prune(queue.engine, retention_days=3, idempotency_hours=24, clock=lambda: clock[0])
    worker = queue.worker()
    finished = queue.submit()
    settle(queue.engine, worker, [succeeded(job) for job in queue.claim(worker)])
    before = names(queue)
    assert prune.run_once() == 0
    clock[0] = today + timedelta(days=5)
    assert prune.run_once() > 0
    assert partitions.partition_name("jobs", today + timedelta(days=12)) in names(queue)
    assert partitions.partition_name("jobs", today) not in names(queue)
    assert before - names(queue)
    assert queue.execute("SELECT count(*) FROM jobs WHERE id = :id", id=finished) == [(0,)]
    assert conservation.check(queue.engine).counts["results"] == 0


def test_a_day_with_a_living_job_is_kept(queue: Queue) -> None:
    today = datetime.now(UTC)
    alive = queue.submit()
    with transaction(queue.engine) as connection:
        dropped = partitions.drop_before(connection, today + timedelta(days=2))
    assert partitions.partition_name("jobs", today) not in dropped
    assert queue.get(alive).status == "queued"


def test_a_row_without_a_partition_of_its_day_is_found_all_the_same(queue: Queue) -> None:
    far = datetime.now(UTC) + timedelta(days=400)
    job_id = queue.submit(id=boundary(far))
    assert queue.get(job_id).status == "queued"
    assert queue.execute("SELECT count(*) FROM jobs_pdefault") == [(1,)]


def test_old_keys_and_gone_workers_are_forgotten(queue: Queue) -> None:
    queue.execute(
        "INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id, created_at)"
        " VALUES (1, 'jobs', 'old', '', gen_random_uuid(), now() - interval '25 h'),"
        "        (1, 'jobs', 'new', '', gen_random_uuid(), now() - interval '23 h')"
    )
    gone, holding = queue.worker(), queue.worker()
    queue.submit()
    queue.claim(holding)
    queue.execute("UPDATE workers SET state = 'stopped', heartbeat_at = now() - interval '2 h'")
    Prune(queue.engine, retention_days=30, idempotency_hours=24).run_once()
    assert queue.execute("SELECT key FROM idempotency_keys") == [("new",)]
    assert queue.execute("SELECT id FROM workers") == [(holding.id,)]
    assert gone.id != holding.id


def test_the_law_finds_every_kind_of_violation(queue: Queue) -> None:
    lost, doubled, _fine = (queue.submit() for _ in range(3))
    assert not conservation.check(queue.engine).violations
    queue.execute("DELETE FROM job_ready WHERE job_id = :id", id=lost)
    queue.execute("INSERT INTO job_results (job_id, status) VALUES (:id, 'canceled')", id=doubled)
    queue.execute("INSERT INTO job_results (job_id, status) VALUES (gen_random_uuid(), 'canceled')")
    found = conservation.check(queue.engine)
    problems: dict[str, Any] = {violation.problem: violation for violation in found.violations}
    assert problems["lost: in no place"].id == str(lost)
    assert problems["in more than one place"].places == ("job_ready", "job_results")
    assert "no such job" in problems
    assert len(found.violations) == 3


def test_a_success_nobody_attempted_is_a_violation(queue: Queue) -> None:
    job_id = queue.submit()
    queue.execute("DELETE FROM job_ready")
    queue.execute("INSERT INTO job_results (job_id, status, epoch) VALUES (:id, 'succeeded', 7)", id=job_id)
    (violation,) = conservation.check(queue.engine).violations
    assert "without a succeeded attempt" in violation.problem
