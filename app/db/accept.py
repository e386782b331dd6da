"""The SQL of accept: job, idempotency key and place in the queue, in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from app.db.engine import connect, rows, sqlstate
from app.domain.lanes import Priority
from app.domain.stages import QueuedJob, Turn
from app.errors import Unavailable

GROUP_PATIENCE_MS = 50
"""How long a group waits for a key that another request holds."""

FIRST = Turn()

LOCK_NOT_AVAILABLE = "55P03"
_DEADLOCK = "40P01"
# These say that nothing was written. Other errors of a server that went away leave it open.
_TURNED_BACK = {LOCK_NOT_AVAILABLE, _DEADLOCK}

# Rows travel as two JSON arrays, which cost the client and the server a fraction of an array per column.
# Inputs have one of their own, whose elements come out to the letter; what `json_to_recordset` reads, it
# unescapes.
#
# Whoever holds a key back (its first request has not committed yet) holds back this whole statement. So a
# group is patient for a moment only; then each of its jobs is written alone, with all the patience there is.
# Keys are locked in one order, so that no two groups wait for each other.
_FIRST_RANKS = ", ".join(
    f"""
               (SELECT rank FROM job_ready r
                 WHERE r.version_id = a.version_id AND r.lane = a.lane AND r.priority = {priority:d}
                   AND r.rank >= a.after ORDER BY rank LIMIT 1)"""
    for priority in Priority
)
_ACCEPT = text(
    f"""
    WITH patience AS MATERIALIZED (
        SELECT CASE WHEN :patience_ms > 0
                    THEN set_config('lock_timeout', CAST(:patience_ms AS text), true) END
    ), asked AS MATERIALIZED (
        SELECT t.*
          FROM patience, ROWS FROM (
            json_array_elements(CAST(:inputs AS json)),
            json_to_recordset(CAST(:rows AS json)) AS (
                id uuid, tenant_id integer, version_id integer, lane smallint, priority smallint,
                input_hash bytea, queue_ttl_s float8, execution_timeout_s float8, max_attempts smallint,
                initial_delay_ms integer, max_delay_ms integer, webhook text, webhook_events text[],
                use_case text, metadata jsonb, retry_of uuid, endpoint text, key text, fingerprint bytea,
                behind bigint, floor bigint, after bigint)
          ) AS t (input, id, tenant_id, version_id, lane, priority, input_hash, queue_ttl_s,
                  execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms, webhook,
                  webhook_events, use_case, metadata, retry_of, endpoint, key, fingerprint,
                  behind, floor, after)
    ), heads AS MATERIALIZED (
        SELECT a.version_id, a.lane, least({_FIRST_RANKS}) AS waits,
               CAST(extract(epoch FROM now()) * 1000000 AS bigint) AS today
          FROM (SELECT version_id, lane, min(after) AS after FROM asked GROUP BY 1, 2) a
    ), keyed AS (
        INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id)
        SELECT tenant_id, endpoint, key, fingerprint, id FROM asked
         WHERE key IS NOT NULL
         ORDER BY tenant_id, endpoint, key
        ON CONFLICT DO NOTHING
        RETURNING resource_id
    ), job AS (
        INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
                          execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms,
                          webhook, webhook_events, use_case, metadata, retry_of)
        SELECT id, tenant_id, version_id, lane, priority, input, input_hash,
               now() + make_interval(secs => queue_ttl_s), execution_timeout_s,
               max_attempts, initial_delay_ms, max_delay_ms, webhook, webhook_events, use_case,
               metadata, retry_of
          FROM asked
         WHERE key IS NULL OR id = ANY (ARRAY(SELECT resource_id FROM keyed))
    ), place AS (
        INSERT INTO job_ready (job_id, tenant_id, version_id, lane, priority, rank, expires_at)
        SELECT id, tenant_id, version_id, lane, priority,
               greatest(floor, behind + (SELECT coalesce(waits, today) FROM heads h
                                          WHERE h.version_id = a.version_id AND h.lane = a.lane)),
               now() + make_interval(secs => queue_ttl_s)
          FROM asked a
         WHERE key IS NULL OR id = ANY (ARRAY(SELECT resource_id FROM keyed))
        RETURNING job_id, version_id, lane, rank, expires_at
    )
    SELECT p.job_id AS id, now() AS created_at, p.expires_at, p.rank, h.waits IS NULL AS alone,
           coalesce(h.waits, h.today) AS head
      FROM place p JOIN heads h ON h.version_id = p.version_id AND h.lane = p.lane
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
    """The job is in the queue, at `rank`. `head` is where the queue began before, in virtual time.

    `alone`: nothing waited.
    """

    created_at: datetime
    expires_at: datetime
    rank: int
    head: int
    alone: bool


@dataclass(frozen=True, slots=True)
class Repeated:
    """The key was used before. `same` tells whether with the same body."""

    resource_id: UUID
    same: bool


def accept(
    engine: Engine, job: QueuedJob, idempotency: IdempotencyKey | None, turn: Turn = FIRST
) -> Accepted | Repeated:
    """Write the job, or find the one that an earlier request with this key made.

    Of any number of concurrent requests with one key, one inserts and the others wait for its commit,
    then are told its job. Raises `Unavailable` if that takes longer than the lock timeout.
    """
    with connect(engine) as connection:
        row = connection.execute(_ACCEPT, _parameters([(job, idempotency)], [turn])).one_or_none()
        if row is not None:
            return _accepted(row)
        assert idempotency is not None
        asked = {"tenant_id": job.tenant_id, "endpoint": idempotency.endpoint, "key": idempotency.key}
        first = connection.execute(FIRST_ANSWER, asked).one()
        return Repeated(first.resource_id, same=first.fingerprint == idempotency.fingerprint)


def knows(engine: Engine, tenant_id: int, idempotency: IdempotencyKey) -> bool:
    """Whether an earlier request with this key made something."""
    asked = {"tenant_id": tenant_id, "endpoint": idempotency.endpoint, "key": idempotency.key}
    with connect(engine) as connection:
        return connection.execute(FIRST_ANSWER, asked).one_or_none() is not None


def accept_group(
    engine: Engine, jobs: Sequence[tuple[QueuedJob, IdempotencyKey | None]], turns: Sequence[Turn] = ()
) -> dict[UUID, Accepted]:
    """Write these jobs, which are at least one, in one statement. Returns those that were written, by id.

    The others were not, and `accept` says of each what it comes to: its key was used before, or one of the
    group is refused, or would have to wait for another request with its key; then none of them is written.
    Raises `Unavailable` when nobody knows.
    """
    try:
        written = rows(engine, _ACCEPT, _parameters(jobs, turns, GROUP_PATIENCE_MS))
    except (DBAPIError, Unavailable) as error:
        if isinstance(error, Unavailable) and sqlstate(error) not in _TURNED_BACK:
            raise
        return {}
    return {row.id: _accepted(row) for row in written}


def accept_many(
    engine: Engine, jobs: Sequence[QueuedJob], turns: Sequence[Turn] = ()
) -> dict[UUID, Accepted]:
    """Write all of these jobs, which are at least one, or none. Returns what became of them, by id."""
    written = rows(engine, _ACCEPT, _parameters([(job, None) for job in jobs], turns))
    return {row.id: _accepted(row) for row in written}


def _accepted(row: Any) -> Accepted:
    return Accepted(row.created_at, row.expires_at, row.rank, row.head, row.alone)


def _parameters(
    jobs: Sequence[tuple[QueuedJob, IdempotencyKey | None]], turns: Sequence[Turn], patience_ms: int = 0
) -> dict[str, Any]:
    """`turns` is one per job, or empty: then each comes first."""
    asked = zip(jobs, turns or [FIRST] * len(jobs), strict=True)
    return {
        "inputs": f"[{','.join([job.input.decode() for job, _ in jobs])}]",
        "rows": orjson.dumps([_row(*job, turn) for job, turn in asked]).decode(),
        "patience_ms": patience_ms,
    }


def _row(job: QueuedJob, idempotency: IdempotencyKey | None, turn: Turn) -> dict[str, Any]:
    row = {
        "id": job.id,
        "tenant_id": job.tenant_id,
        "version_id": job.version_id,
        "lane": job.lane,
        "priority": job.priority,
        "input_hash": f"\\x{job.input_hash.hex()}",
        "queue_ttl_s": job.queue_ttl_s,
        "execution_timeout_s": job.execution_timeout_s,
        "max_attempts": job.retry.max_attempts,
        "initial_delay_ms": job.retry.initial_delay_ms,
        "max_delay_ms": job.retry.max_delay_ms,
        "metadata": job.metadata,
        "behind": turn.behind,
        "floor": turn.floor,
        "after": turn.after,
    }
    if job.webhook:
        row |= {"webhook": job.webhook, "webhook_events": job.webhook_events}
    if job.use_case is not None:
        row["use_case"] = job.use_case
    if job.retry_of is not None:
        row["retry_of"] = job.retry_of
    if idempotency is not None:
        row |= {
            "endpoint": idempotency.endpoint,
            "key": idempotency.key,
            "fingerprint": f"\\x{idempotency.fingerprint.hex()}",
        }
    return row
