"""Cancel, retry, erase: what a client may do with a job that exists."""

import hashlib
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import orjson

from app.broker.ring import Ringer
from app.broker.wakeups import Wakeups
from app.db import cancel as cancel_sql
from app.db import erase as erase_sql
from app.db import jobs
from app.db.engine import Engine
from app.db.scope import on_behalf_of
from app.domain.ids import InvalidId, new_uuid, parse_id
from app.domain.lanes import Lane, Priority
from app.domain.retry import RetryPolicy
from app.domain.stages import DeliveryBell, QueuedJob
from app.domain.states import TERMINAL, JobStatus
from app.errors import Conflict, NotFound
from app.intake import bells
from app.intake.accept import Prepared
from app.intake.authenticate import Principal
from app.intake.catalogue import Catalogue
from app.intake.coalesce import Coalescer
from app.intake.upload import remove
from app.intake.validate import canonical
from app.storage import Storage


def parse_job_id(text: str) -> UUID:
    """The id in a URL. Raises `NotFound`: what is no id names no job."""
    try:
        return parse_id("job", text)
    except InvalidId:
        raise not_found() from None


def not_found() -> NotFound:
    """The same for a job that never was and for one of somebody else."""
    return NotFound("job_not_found", "there is no such job")


def fetch(engine: Engine, principal: Principal, job_id: UUID) -> Any:
    """The job's row. Raises `NotFound`."""
    row = jobs.get(engine, principal.tenant_id, job_id)
    if row is None:
        raise not_found()
    return row


class JobReader(Coalescer[jobs.OwnedJob, Any]):
    """Reads jobs by id: those that are asked for together, as when a wake-up names many, in one statement."""

    MOST = 8
    """Each of them is answered before anybody else's request goes on, and may bring an output of some hundred
    kilobytes.
    """

    def __init__(self, engine: Engine) -> None:
        def read(wanted: Sequence[jobs.OwnedJob]) -> list[Any]:
            with on_behalf_of(tenant_id for tenant_id, _ in wanted):
                rows = jobs.get_many(engine, set(wanted))
            return [rows.get(one) for one in wanted]

        super().__init__(read, self.MOST)

    def fetch(self, principal: Principal, job_id: UUID) -> Any:
        """The job's row. Raises `NotFound`."""
        row = self((principal.tenant_id, job_id))
        if row is None:
            raise not_found()
        return row


def cancel(engine: Engine, ringer: Ringer, wakeups: Wakeups, principal: Principal, job_id: UUID) -> Any:
    """End a waiting job at once, ask a running one to end, leave one that ended. Returns its row."""
    if not jobs.exists(engine, principal.tenant_id, job_id):
        raise not_found()
    status = cancel_sql.cancel(engine, job_id)
    if status is not None:
        wakeups.announce([job_id])
    if status is JobStatus.CANCELED:
        # If it ended now, the webhooks that tell of it are queued; for once too often there is no harm.
        bells.ring(ringer, DeliveryBell())
    return fetch(engine, principal, job_id)


def give_up(engine: Engine, ringer: Ringer, wakeups: Wakeups, job_ids: Sequence[UUID]) -> None:
    """Cancel these jobs, of whatever tenant, since nobody wants what is not done of them."""
    statuses = cancel_sql.cancel_many(engine, job_ids)
    wakeups.announce(statuses)
    if JobStatus.CANCELED in statuses.values():
        bells.ring(ringer, DeliveryBell())


def erase(engine: Engine, storage: Storage, principal: Principal, job_id: UUID) -> Any:
    """Erase input, metadata and output of a finished job, its output's file too; doing it again is fine.
    Returns its row.

    Raises `Conflict` while the job is alive.
    """
    erased = erase_sql.erase(engine, principal.tenant_id, job_id)
    if erased is None:
        fetch(engine, principal, job_id)
        raise Conflict("job_not_finished", "the job has not ended; cancel it first")
    if erased.key is not None:
        remove(engine, storage, erased.key)
    return fetch(engine, principal, job_id)


def retry(engine: Engine, catalogue: Catalogue, principal: Principal, job_id: UUID) -> Prepared:
    """The same again, not written yet: same version, input and options, as a new job.

    Raises `Conflict` while the job is alive, or once its input is erased.
    """
    row = fetch(engine, principal, job_id)
    if JobStatus(row.status) not in TERMINAL:
        raise Conflict("job_not_finished", "the job has not ended, so there is nothing to try again")
    if row.erased_at is not None:
        raise Conflict("job_erased", "the job's input was erased")
    listed = catalogue.find(row.model, row.version)
    if listed is None:
        raise Conflict("version_gone", "the job's model version is no longer registered")
    return Prepared(
        _again(row, listed.version.id, listed.version.spec.device, principal.weight), listed.version
    )


def _again(row: Any, version_id: int, device: Any, weight: int) -> QueuedJob:
    return QueuedJob(
        id=new_uuid(),
        tenant_id=row.tenant_id,
        version_id=version_id,
        model=row.model,
        version=row.version,
        device=device,
        lane=Lane(row.lane),
        priority=Priority(row.priority),
        input=orjson.dumps(row.input),
        input_hash=hashlib.sha256(canonical(row.input)).digest(),
        queue_ttl_s=(row.expires_at - row.created_at).total_seconds(),
        execution_timeout_s=row.execution_timeout_s,
        retry=RetryPolicy(row.max_attempts, row.initial_delay_ms, row.max_delay_ms),
        metadata=row.metadata,
        use_case=row.use_case,
        webhook=row.webhook,
        webhook_events=tuple(row.webhook_events or ()),
        retry_of=row.id,
        weight=weight,
    )
