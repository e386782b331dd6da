"""Accept: from a validated request to a committed job, then the bell. One SQL statement writes it all."""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
import structlog

from app.broker.ring import Ringer, doorbell_for
from app.db import accept as sql
from app.db import jobs
from app.db.engine import Engine
from app.db.quotas import waiting_of_tenants
from app.db.scope import on_behalf_of
from app.domain.ids import format_id, new_uuid
from app.domain.lanes import Lane, Priority
from app.domain.model import ModelVersion
from app.domain.retry import RetryPolicy
from app.domain.stages import QueuedJob
from app.errors import Conflict
from app.intake import bells
from app.intake.authenticate import Principal
from app.intake.catalogue import Catalogue
from app.intake.coalesce import Coalescer
from app.intake.idempotency import Once, in_flight, reused
from app.intake.media import check_files
from app.intake.request import JobRequest, Policy, Retry
from app.intake.shares import Shares
from app.intake.validate import canonical, validate_input
from app.observability import logs, metrics, tracing

log = logs.get_logger()

PRIORITY = {"high": Priority.HIGH, "normal": Priority.NORMAL, "low": Priority.LOW, None: Priority.NORMAL}
_POLICY, _RETRY = Policy(), Retry()

MOST_TOGETHER = 64
"""Jobs in one statement: more save nothing, and each would wait for all."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A valid job and the version it is for, about to be written."""

    job: QueuedJob
    version: ModelVersion


@dataclass(frozen=True, slots=True)
class Fresh:
    """The job was written now."""

    job: QueuedJob
    unit: str
    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Replayed:
    """An earlier request with the same key wrote the job; its row as `app.db.jobs.get` gives it."""

    row: Any


class Intake:
    """Accepts jobs. One per process; safe to share among threads."""

    def __init__(
        self,
        engine: Engine,
        catalogue: Catalogue,
        ringer: Ringer,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._catalogue = catalogue
        self._ringer = ringer
        self._shares = Shares(lambda version_ids: waiting_of_tenants(engine, version_ids), clock)
        self._together = Coalescer(self._accept_group, MOST_TOGETHER)

    @property
    def waiting(self) -> int:
        """How many jobs wait for the next statement."""
        return self._together.waiting

    def prepare(self, principal: Principal, request: JobRequest) -> Prepared:
        """The job that was asked for, not written yet. Raises `Invalid` for what is no job of that model."""
        listed = self._catalogue.resolve(request.model, request.version)
        text = orjson.dumps(request.input)
        check_files(self._engine, principal.tenant_id, validate_input(listed, request.input, text))
        return Prepared(compose(principal, listed.version, request, text), listed.version)

    def write(self, prepared: Prepared, once: Once | None) -> Fresh | Replayed:
        """Commit a job, then ring. With `once`, only the first of its requests writes; all get its job.

        Raises `Invalid` if the key was used for something else, `Conflict` while its first request
        is still being committed, and `Unavailable`; then nothing was written, or nobody knows yet.
        """
        job, version = prepared.job, prepared.version
        with in_flight(once):
            written = self._together((prepared, once)) or self._accept_alone(prepared, once)
        if isinstance(written, sql.Repeated):
            return self._replay(job.tenant_id, written)
        metrics.ACCEPT_JOBS.labels(job.model).inc()
        metrics.accepted_of(job.tenant_id)
        tracing.accepted(job.id, job.model)
        # The line of the request says which job it made.
        structlog.contextvars.bind_contextvars(job=format_id("job", job.id))
        return Fresh(job, version.spec.unit, written.created_at, written.expires_at)

    def write_many(self, jobs: Sequence[QueuedJob], version: ModelVersion) -> None:
        """Commit these jobs of one version and lane, all or none, then ring once."""
        self._shares.placed(jobs, sql.accept_many(self._engine, jobs, self._shares.turns(jobs)))
        metrics.ACCEPT_JOBS.labels(version.spec.name).inc(len(jobs))
        metrics.accepted_of(jobs[0].tenant_id, len(jobs))
        logs.of_jobs(log, "accept.jobs", [job.id for job in jobs], model=version.spec.name)
        for job in jobs:
            tracing.accepted(job.id, job.model)
        bells.ring(self._ringer, doorbell_for(version, jobs[0].lane))

    def _accept_group(self, group: Sequence[tuple[Prepared, Once | None]]) -> list[sql.Accepted | None]:
        """Commit them in one statement, then ring once for each version and lane."""
        jobs = [prepared.job for prepared, _ in group]
        turns = self._shares.turns(jobs)
        with on_behalf_of(job.tenant_id for job in jobs):
            written = sql.accept_group(self._engine, [(one.job, once) for one, once in group], turns)
        self._shares.placed(jobs, written)
        news = [prepared for prepared, _ in group if prepared.job.id in written]
        for prepared in {(one.version.id, one.job.lane): one for one in news}.values():
            self._ring(prepared)
        return [written.get(prepared.job.id) for prepared, _ in group]

    def _accept_alone(self, prepared: Prepared, once: Once | None) -> sql.Accepted | sql.Repeated:
        (turn,) = self._shares.turns([prepared.job])
        written = sql.accept(self._engine, prepared.job, once, turn)
        if isinstance(written, sql.Accepted):
            self._shares.placed([prepared.job], {prepared.job.id: written})
            self._ring(prepared)
        return written

    def _ring(self, prepared: Prepared) -> None:
        bells.ring(self._ringer, doorbell_for(prepared.version, prepared.job.lane))

    def _replay(self, tenant_id: int, written: sql.Repeated) -> Replayed:
        if not written.same:
            raise reused()
        row = jobs.get(self._engine, tenant_id, written.resource_id)
        if row is None:
            raise Conflict("job_gone", "the job that this key made is past its retention")
        metrics.ACCEPT_REPLAYS.inc()
        return Replayed(row)


def compose(principal: Principal, version: ModelVersion, request: JobRequest, text: bytes) -> QueuedJob:
    """The row to be written. `text` is the input as JSON."""
    policy, retry = request.policy or _POLICY, request.retry or _RETRY
    limit = version.spec.execution_timeout_s
    events = request.webhook_events_filter
    return QueuedJob(
        id=new_uuid(),
        tenant_id=principal.tenant_id,
        version_id=version.id,
        model=version.spec.name,
        version=version.spec.version,
        device=version.spec.device,
        lane=Lane.INTERACTIVE,
        priority=PRIORITY[request.priority],
        input=text,
        input_hash=hashlib.sha256(canonical(request.input)).digest(),
        queue_ttl_s=policy.queue_ttl_s,
        execution_timeout_s=min(policy.execution_timeout_s or limit, limit),
        retry=RetryPolicy(retry.max_attempts, retry.initial_delay_ms, retry.max_delay_ms),
        metadata=request.metadata or {},
        use_case=request.use_case,
        webhook=request.webhook,
        webhook_events=tuple(dict.fromkeys(events)) if events else ("completed",),
        weight=principal.weight,
    )
