"""The SQL that reads jobs. One statement sees all places in one snapshot, so a job is in exactly one."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from app.db.engine import connect, rows
from app.domain.ids import MOST_ITEMS, item_uuid
from app.domain.states import JobStatus

_COLUMNS = """
    j.id, j.tenant_id, v.model, v.version, v.unit, j.lane, j.priority, j.execution_timeout_s,
    j.max_attempts, j.initial_delay_ms, j.max_delay_ms, j.webhook, j.webhook_events, j.use_case,
    j.metadata, j.batch_id, j.custom_id, j.retry_of, j.created_at, j.expires_at, j.erased_at,
    CASE WHEN res.job_id IS NOT NULL THEN res.status
         WHEN l.job_id IS NOT NULL THEN 'running'
         ELSE 'queued' END AS status,
    CASE WHEN l.cancel_requested THEN 'cancel_requested'
         WHEN res.job_id IS NOT NULL THEN res.reason
         WHEN l.job_id IS NOT NULL THEN NULL
         ELSE coalesce(d.reason, r.reason, 'waiting_for_worker') END AS reason,
    coalesce(res.started_at, l.claimed_at) AS started_at, res.completed_at, res.error,
    res.batch_size, res.units, res.run_s, res.device_s, res.device,
    p.fraction AS progress, p.message AS progress_message
"""
_FROM = """
      FROM jobs j
      JOIN model_versions v ON v.id = j.version_id
      LEFT JOIN job_results  res ON res.job_id = j.id
      LEFT JOIN job_leases   l   ON l.job_id = j.id
      LEFT JOIN job_deferred d   ON d.job_id = j.id
      LEFT JOIN job_ready    r   ON r.job_id = j.id
      LEFT JOIN job_progress p   ON p.job_id = j.id
"""
# As text: it is passed on as it is, and nobody here looks into it.
_OUTPUT = "CAST(res.output AS text)"
_ATTEMPTS = """(SELECT json_agg(json_build_object(
                       'attempt', a.attempt, 'outcome', a.outcome, 'error_code', a.error_code,
                       'worker_id', a.worker_id, 'pool', a.pool, 'device', a.device,
                       'started_at', a.started_at, 'ended_at', a.ended_at,
                       'batch_size', a.batch_size, 'device_seconds', a.device_s) ORDER BY a.epoch)
              FROM job_attempts a WHERE a.job_id = j.id) AS attempts
"""
# LATERAL … OFFSET 0 keeps the planner from joining all partitions of jobs to find a handful of rows.
_WANTED = """FROM (
        SELECT asked.* FROM unnest(CAST(:ids AS uuid[])) AS wanted (id)
         CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = wanted.id OFFSET 0) asked) j"""
# Whoever asks names the tenant of each job, so that many tenants' requests can share the statement.
_OWNED = """FROM (
        SELECT asked.*
          FROM unnest(CAST(:tenant_ids AS integer[]), CAST(:ids AS uuid[])) AS wanted (tenant_id, id)
         CROSS JOIN LATERAL (
            SELECT * FROM jobs WHERE id = wanted.id AND tenant_id = wanted.tenant_id OFFSET 0) asked) j"""
_GET = text(
    f"""
    SELECT {_COLUMNS}, j.input, {_OUTPUT} AS output, {_ATTEMPTS}
    {_FROM.replace("FROM jobs j", _OWNED)}
    """
)
# A job's input and output are read only as far as a webhook has room for them.
_FOR_WEBHOOKS = text(
    f"""
    SELECT {_COLUMNS}, size.input_bytes, size.output_bytes,
           CASE WHEN size.input_bytes <= :most_bytes THEN j.input END AS input,
           CASE WHEN size.input_bytes + size.output_bytes <= :most_bytes THEN {_OUTPUT} END AS output,
           {_ATTEMPTS}
    {_FROM.replace("FROM jobs j", _WANTED)}
     CROSS JOIN LATERAL (
        SELECT coalesce(octet_length(CAST(j.input AS text)), 0) AS input_bytes,
               coalesce(octet_length(CAST(res.output AS text)), 0) AS output_bytes) size
    """
)
_LIST_HEAD = f"SELECT {_COLUMNS}, j.input, {_OUTPUT} AS output, NULL AS attempts {_FROM}"

OwnedJob = tuple[int, UUID]
"""A tenant's id and the id of a job, which is the tenant's or is not there."""

# These start from the narrow table that a job of the status is in: a tenant's history is long.
_PLACES = {
    JobStatus.RUNNING: "job_leases",
    JobStatus.QUEUED: """(SELECT job_id, tenant_id FROM job_ready
                           UNION ALL SELECT job_id, tenant_id FROM job_deferred)""",
}
_PLACED = """FROM {place} place
      CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = place.job_id OFFSET 0) j"""


@dataclass(frozen=True, slots=True)
class JobFilter:
    """What a list may be narrowed by. `before_id` is the cursor: only older jobs than it."""

    tenant_id: int
    limit: int
    before_id: UUID | None = None
    status: JobStatus | None = None
    model: str | None = None
    version: str | None = None
    batch_id: UUID | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    metadata: dict[str, str] = field(default_factory=dict)


def get(engine: Engine, tenant_id: int, job_id: UUID) -> Any | None:
    """The job's row with everything the API shows, or None if this tenant has no such job.

    `output` is JSON text.
    """
    return get_many(engine, [(tenant_id, job_id)]).get((tenant_id, job_id))


def get_many(engine: Engine, wanted: Collection[OwnedJob]) -> dict[OwnedJob, Any]:
    """Rows as `get` gives them. What is no job, or another tenant's, is not among them."""
    parameters = {"tenant_ids": [tenant for tenant, _ in wanted], "ids": [job for _, job in wanted]}
    return {(row.tenant_id, row.id): row for row in rows(engine, _GET, parameters)}


def for_webhooks(engine: Engine, job_ids: Sequence[UUID], most_bytes: int) -> dict[UUID, Any]:
    """Rows as `get` gives them, of any tenant, with `input_bytes` and `output_bytes`. The input is None if it
    alone is over `most_bytes`, and the output if both together are.
    """
    with connect(engine) as connection:
        found = connection.execute(_FOR_WEBHOOKS, {"ids": list(job_ids), "most_bytes": most_bytes}).all()
    return {row.id: row for row in found}


def exists(engine: Engine, tenant_id: int, job_id: UUID) -> bool:
    """Whether this tenant has such a job."""
    with connect(engine) as connection:
        return connection.execute(
            text("SELECT EXISTS (SELECT FROM jobs WHERE id = :id AND tenant_id = :tenant_id)"),
            {"id": job_id, "tenant_id": tenant_id},
        ).scalar_one()


def list_jobs(engine: Engine, where: JobFilter) -> Sequence[Any]:
    """Rows as `get` gives them, without attempts, newest first; one more than `limit` if there are more."""
    head, job_id, conditions = _LIST_HEAD, "j.id", ["j.tenant_id = :tenant_id"]
    parameters: dict[str, Any] = {"tenant_id": where.tenant_id, "limit": where.limit + 1}
    if where.status in _PLACES:
        head = head.replace("FROM jobs j", _PLACED.format(place=_PLACES[where.status]))
        job_id = "place.job_id"
        conditions.append("place.tenant_id = :tenant_id")
    elif where.status is not None:
        conditions.append("res.status = :status")
        parameters["status"] = where.status.value
    if where.before_id is not None:
        conditions.append(f"{job_id} < :before_id")
        parameters["before_id"] = where.before_id
    if where.model is not None:
        conditions.append("v.model = :model")
        parameters["model"] = where.model
    if where.version is not None:
        conditions.append("v.version = :version")
        parameters["version"] = where.version
    if where.batch_id is not None:
        # A batch's jobs are one range of ids. Any other job's id is outside of it.
        conditions.append(f"{job_id} > :batch_id AND {job_id} <= :last_of_batch")
        parameters["batch_id"] = where.batch_id
        parameters["last_of_batch"] = item_uuid(where.batch_id, MOST_ITEMS)
    if where.created_after is not None:
        conditions.append("j.created_at > :created_after")
        parameters["created_after"] = where.created_after
    if where.created_before is not None:
        conditions.append("j.created_at < :created_before")
        parameters["created_before"] = where.created_before
    if where.metadata:
        conditions.append("j.metadata @> CAST(:metadata AS jsonb)")
        parameters["metadata"] = orjson.dumps(where.metadata).decode()
    statement = text(f"{head} WHERE {' AND '.join(conditions)} ORDER BY {job_id} DESC LIMIT :limit")
    with connect(engine) as connection:
        return connection.execute(statement, parameters).all()
