"""Each step of the queue and of its upkeep, as the process that does it runs it, on one database."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import text

from app.db import (
    accept,
    batch_work,
    claim,
    conservation,
    deliveries,
    endpoints,
    forecast,
    jobs,
    keys,
    models,
    partitions,
    pools,
    pressure,
    quotas,
    rescue,
    settle,
    tenants,
    upkeep,
    workers,
)
from app.db.engine import Engine, connect, transaction
from app.db.jobs import JobFilter
from app.db.settle import Settlement
from app.domain.delivery import DeliveryStatus
from app.domain.ids import new_uuid
from app.domain.lanes import Device, Lane, Priority, queue_name
from app.domain.retry import RetryPolicy
from app.domain.stages import QueuedJob, WorkerIdentity
from app.domain.states import JobStatus
from benchmarks.many_rows import Size


@dataclass
class Filled:
    """A database of one size, by the two kinds of engine that our processes have."""

    url: str
    size: Size
    hot: Engine
    plain: Engine
    worker: WorkerIdentity
    rng: random.Random = field(default_factory=lambda: random.Random(7))
    claimed: Any = None

    def tenant(self) -> int:
        return 1 + self.rng.randrange(self.size.tenants)

    def busy(self) -> int:
        """A version with jobs that wait."""
        return 1 + self.rng.randrange(self.size.busy)

    def execute(self, statement: str, **values: Any) -> Any:
        with connect(self.plain) as connection:
            return connection.execute(text(statement), values).all()


def steps_of(db: Filled) -> dict[str, Callable[[], object]]:
    """What is measured, by name. What a process does with a connection of the hot path has one here, too."""
    rare = f"model-{db.size.versions}"
    (waiting,) = db.execute("SELECT job_id, tenant_id FROM job_ready ORDER BY rank OFFSET 500 LIMIT 1")
    (child,) = db.execute("SELECT id FROM workers WHERE host = 'host-0' LIMIT 1")
    (busiest,) = db.execute("SELECT tenant_id FROM jobs GROUP BY 1 ORDER BY count(*) DESC LIMIT 1")
    (batch,) = db.execute("SELECT id, tenant_id FROM batches LIMIT 1")
    known = db.execute("SELECT models FROM workers WHERE id = :id", id=child.id)[0].models
    of = busiest.tenant_id

    def some_jobs() -> list[tuple[QueuedJob, None]]:
        return [(_job(db), None) for _ in range(16)]

    def accept_group() -> None:
        accept.accept_group(db.hot, some_jobs())

    def claim_some() -> None:
        db.claimed = claim.claim(db.hot, db.worker.id, db.busy(), Lane.INTERACTIVE, 16, 60.0).jobs
        assert db.claimed

    def settle_some() -> None:
        rows = [Settlement(job.id, job.epoch, JobStatus.QUEUED, "released", 0) for job in db.claimed]
        settle.settle(db.hot, db.worker, rows)

    def rescue_pass() -> None:
        rescue.bury(db.plain, 1e6, 10.0)
        rescue.orphaned_workers(db.plain)
        deliveries.orphaned_workers(db.plain)
        batch_work.rescue(db.plain)

    def sweep_statements() -> None:
        upkeep.waiting(db.plain)
        deliveries.any_due(db.plain)
        batch_work.notice(db.plain)
        batch_work.any_due(db.plain)

    def prune() -> None:
        now = datetime.now(UTC)
        with transaction(db.plain) as connection:
            partitions.ensure(connection, now)
            partitions.drop_before(connection, now - timedelta(days=365))
        upkeep.forget_idempotency_keys(db.plain, 24)
        upkeep.forget_workers(db.plain)

    def send() -> None:
        taken = deliveries.claim(db.hot, db.worker.id, window=64, room=4, rooms={}).deliveries
        tries = [
            deliveries.SettledTry(one.id, one.epoch, DeliveryStatus.PENDING, tried=False) for one in taken
        ]
        deliveries.settle(db.hot, tries)

    def where_it_stands() -> None:
        found = forecast.ahead(db.hot, waiting.job_id)
        assert found is not None
        forecast.pace(db.hot, found)

    def listeners() -> None:
        forecast.children(db.hot, queue_name(Device.REMOTE, Lane.INTERACTIVE))

    def lists(**narrowed: Any) -> Callable[[], object]:
        return lambda: jobs.list_jobs(db.hot, JobFilter(of, 20, **narrowed))

    return {
        "accept 16": accept_group,
        "claim 16": claim_some,
        "settle 16": settle_some,
        "heartbeat": lambda: workers.heartbeat(db.hot, child.id, known),
        "mark": lambda: workers.mark(db.hot, child.id, [new_uuid()], 60.0),
        "siblings": lambda: workers.siblings(db.hot, db.worker),
        "rescue pass": rescue_pass,
        "promote": lambda: upkeep.promote(db.plain),
        "age": lambda: upkeep.age(db.plain, 300.0),
        "expire": lambda: upkeep.expire(db.plain),
        "sweep's statements": sweep_statements,
        "prune": prune,
        "depths for the metrics": lambda: upkeep.depths(db.plain),
        "deliveries' depths": lambda: deliveries.depths(db.plain),
        "batches' depths": lambda: batch_work.depths(db.plain),
        "back-pressure's count": lambda: pressure.work(db.hot),
        "fair shares' count": lambda: quotas.waiting_of_tenants(db.hot, [db.busy()]),
        "one tenant's quota": lambda: quotas.held(db.hot, [db.tenant()]),
        "everybody's": lambda: quotas.held_by_all(db.hot),
        "scaling signal": lambda: pools.backlogs(db.plain),
        "pools' machines": lambda: pools.machines(db.plain, ["default"]),
        "webhooks, claim and give back 64": send,
        "a job": lambda: jobs.get(db.hot, waiting.tenant_id, waiting.job_id),
        "a job's place and pace": where_it_stands,
        "a queue's children": listeners,
        "a tenant's jobs": lists(),
        "its failed jobs": lists(status=JobStatus.FAILED),
        "its queued jobs": lists(status=JobStatus.QUEUED),
        "its running jobs": lists(status=JobStatus.RUNNING),
        "its jobs of a model": lists(model=rare),
        "a batch's jobs": lambda: jobs.list_jobs(db.hot, JobFilter(batch.tenant_id, 20, batch_id=batch.id)),
        "all children": lambda: workers.list_all(db.hot),
        "all versions": lambda: models.list_all(db.hot),
        "all tenants": lambda: tenants.list_all(db.hot),
        "all keys": lambda: keys.list_all(db.hot),
        "all endpoints": lambda: endpoints.list_all(db.hot),
        "doctor": lambda: conservation.check(db.plain),
    }


def _job(db: Filled) -> QueuedJob:
    return QueuedJob(
        id=new_uuid(),
        tenant_id=db.tenant(),
        version_id=db.busy(),
        model="model",
        version="1",
        device=Device.REMOTE,
        lane=Lane.INTERACTIVE,
        priority=Priority.NORMAL,
        input=b'{"n":1}',
        input_hash=b"",
        queue_ttl_s=86_400.0,
        execution_timeout_s=60.0,
        retry=RetryPolicy(),
    )
