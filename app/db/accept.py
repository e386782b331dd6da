"""The SQL of accept: job, idempotency key and place in the queue, in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, text

from app.db.engine import connect
from app.domain.stages import QueuedJob

_ACCEPT = text(
    """
    WITH keyed AS (
        INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id)
        SELECT :tenant_id, :endpoint, CAST(:key AS text), :fingerprint, CAST(:id AS uuid)
         WHERE CAST(:key AS text) IS NOT NULL
        ON CONFLICT DO NOTHING
        RETURNING resource_id
    ), job AS (
        INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
                          execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms,
                          webhook, webhook_events, use_case, metadata, retry_of)
        SELECT CAST(:id AS uuid), :tenant_id, :version_id, :lane, :priority, CAST(:input AS json),
               :input_hash, now() + make_interval(secs => :queue_ttl_s), :execution_timeout_s,
               :max_attempts, :initial_delay_ms, :max_delay_ms, CAST(:webhook AS text),
               CAST(:webhook_events AS text[]), CAST(:use_case AS text), CAST(:metadata AS jsonb),
               CAST(:retry_of AS uuid)
         WHERE CAST(:key AS text) IS NULL OR EXISTS (SELECT FROM keyed)
        RETURNING id, version_id, lane, priority, created_at, expires_at
    ), place AS (
        INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at)
        SELECT id, version_id, lane, priority, extract(epoch FROM created_at) * 1000000, expires_at
          FROM job
    )
    SELECT created_at, expires_at FROM job
    """
)

# An array a column, but for two. Inputs travel as one JSON array, whose elements come out to the letter:
# psycopg escapes the texts of an array quote by quote, which takes seconds for some megabytes of JSON. And a
# job's events travel as one text, since unnest would flatten an array of arrays.
_ACCEPT_MANY = text(
    """
    WITH job AS (
        INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
                          execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms,
                          webhook, webhook_events, use_case, metadata, retry_of)
        SELECT id, tenant_id, version_id, lane, priority, input, input_hash,
               now() + make_interval(secs => queue_ttl_s), execution_timeout_s,
               max_attempts, initial_delay_ms, max_delay_ms, webhook,
               string_to_array(webhook_events, ','), use_case, CAST(metadata AS jsonb), retry_of
          FROM ROWS FROM (
            json_array_elements(CAST(:input AS json)),
            unnest(
                CAST(:id AS uuid[]), CAST(:tenant_id AS integer[]), CAST(:version_id AS integer[]),
                CAST(:lane AS smallint[]), CAST(:priority AS smallint[]), CAST(:input_hash AS bytea[]),
                CAST(:queue_ttl_s AS float8[]), CAST(:execution_timeout_s AS float8[]),
                CAST(:max_attempts AS smallint[]), CAST(:initial_delay_ms AS integer[]),
                CAST(:max_delay_ms AS integer[]), CAST(:webhook AS text[]),
                CAST(:webhook_events AS text[]), CAST(:use_case AS text[]), CAST(:metadata AS text[]),
                CAST(:retry_of AS uuid[])
            )
          ) AS t (input, id, tenant_id, version_id, lane, priority, input_hash, queue_ttl_s,
                  execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms, webhook,
                  webhook_events, use_case, metadata, retry_of)
        RETURNING id, version_id, lane, priority, created_at, expires_at
    )
    INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at)
    SELECT id, version_id, lane, priority, extract(epoch FROM created_at) * 1000000, expires_at
      FROM job
    """
)

FIRST_ANSWER = text(
    """
    SELECT fingerprint, resource_id FROM idempotency_keys
     WHERE tenant_id = :tenant_id AND endpoint = :endpoint AND key = :key
    """
)
"""What the first request with a key made, and of what."""


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """What makes two requests the same: tenant and endpoint are implied by where it is used."""

    endpoint: str
    key: str
    fingerprint: bytes


@dataclass(frozen=True, slots=True)
class Accepted:
    """The job is in the queue."""

    created_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Repeated:
    """The key was used before. `same` tells whether with the same body."""

    resource_id: UUID
    same: bool


def accept(engine: Engine, job: QueuedJob, idempotency: IdempotencyKey | None) -> Accepted | Repeated:
    """Write the job, or find the one that an earlier request with this key made.

    Of any number of concurrent requests with one key, one inserts and the others wait for its commit,
    then are told its job. Raises `Unavailable` if that takes longer than the lock timeout.
    """
    parameters = {
        **_row(job),
        "endpoint": idempotency.endpoint if idempotency else "",
        "key": idempotency.key if idempotency else None,
        "fingerprint": idempotency.fingerprint if idempotency else b"",
    }
    with connect(engine) as connection:
        row = connection.execute(_ACCEPT, parameters).one_or_none()
        if row is not None:
            return Accepted(row.created_at, row.expires_at)
        assert idempotency is not None
        first = connection.execute(FIRST_ANSWER, parameters).one()
        return Repeated(first.resource_id, same=first.fingerprint == idempotency.fingerprint)


def accept_many(engine: Engine, jobs: Sequence[QueuedJob]) -> None:
    """Write all of these jobs, which are at least one, or none. They queue in this order."""
    rows = [_row(job) for job in jobs]
    columns: dict[str, Any] = {name: [row[name] for row in rows] for name in rows[0]}
    columns["input"] = f"[{','.join(columns['input'])}]"
    columns["webhook_events"] = [
        None if events is None else ",".join(events) for events in columns["webhook_events"]
    ]
    with connect(engine) as connection:
        connection.execute(_ACCEPT_MANY, columns)


def _row(job: QueuedJob) -> dict[str, Any]:
    return {
        "id": job.id,
        "tenant_id": job.tenant_id,
        "version_id": job.version_id,
        "lane": int(job.lane),
        "priority": int(job.priority),
        "input": job.input.decode(),
        "input_hash": job.input_hash,
        "queue_ttl_s": job.queue_ttl_s,
        "execution_timeout_s": job.execution_timeout_s,
        "max_attempts": job.retry.max_attempts,
        "initial_delay_ms": job.retry.initial_delay_ms,
        "max_delay_ms": job.retry.max_delay_ms,
        "webhook": job.webhook,
        "webhook_events": list(job.webhook_events) if job.webhook else None,
        "use_case": job.use_case,
        "metadata": orjson.dumps(job.metadata).decode(),
        "retry_of": job.retry_of,
    }
