"""The SQL of ingest: lines of a batch's file become its jobs, in chunks, by COPY.

A chunk's jobs, their places in the queue, the tenant's share and the place in the file that was reached are
one transaction. So whoever goes on from there makes no job twice and leaves none out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import orjson
from sqlalchemy import Connection, Engine, text

from app.db.batch_work import Lease, hold
from app.db.engine import copy_in, transaction
from app.db.outbox import tell_of_jobs
from app.db.tally import tally
from app.domain.ids import MOST_ITEMS, item_uuid
from app.domain.lanes import Lane

STEP = 1000
"""How far apart the jobs of a tenant of weight 1 are in virtual time; of weight 3, a third of it."""

_JOBS = """COPY jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
    execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms, webhook, webhook_events, use_case,
    metadata, batch_id, custom_id, encoding) FROM STDIN"""
_READY = "COPY job_ready (job_id, rank, expires_at, version_id, lane, priority, tenant_id) FROM STDIN"

# Start-time fair queueing: a tenant's jobs begin where the queue is, or where the tenant's last ones end,
# whichever is later. Where the queue is: at the lowest rank that waits, or behind all if nothing does.
# Source: P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.
_SHARE = text(
    f"""
    WITH wanted AS (
        SELECT * FROM unnest(CAST(:versions AS integer[]), CAST(:counts AS bigint[])) AS t (version_id, jobs)
    ), heads AS (
        SELECT w.version_id, w.jobs,
               coalesce(
                   (SELECT min(first.rank) FROM generate_series(0, 2) AS p (priority)
                     CROSS JOIN LATERAL (
                        SELECT rank FROM job_ready r
                         WHERE r.version_id = w.version_id AND r.lane = {int(Lane.BATCH)}
                           AND r.priority = p.priority
                         ORDER BY rank LIMIT 1) first),
                   (SELECT max(finish) FROM fair_shares s WHERE s.version_id = w.version_id),
                   0) AS head
          FROM wanted w ORDER BY w.version_id
    )
    INSERT INTO fair_shares AS s (tenant_id, version_id, finish)
    SELECT :tenant_id, version_id, head + {STEP} * jobs / weight
      FROM heads, (SELECT weight FROM tenants WHERE id = :tenant_id) t
    ON CONFLICT (tenant_id, version_id) DO UPDATE
       SET finish = greatest(excluded.finish, s.finish + excluded.finish - (
               SELECT head FROM heads WHERE heads.version_id = s.version_id))
    RETURNING version_id, finish, (SELECT weight FROM tenants WHERE id = :tenant_id) AS weight
    """
)
_REACHED = text(
    """
    UPDATE batches SET ingested = ingested + :jobs, next_line = :next_line, next_byte = :next_byte
     WHERE id = :batch_id
    """
)
_END_AT_ONCE = text(
    f"""
    WITH taken AS (
        SELECT id AS job_id, lane, tenant_id, CAST(:status AS text) AS status
          FROM jobs WHERE id >= :first AND id <= :last
    ), ended AS (
        INSERT INTO job_results (job_id, status, reason, tenant_id)
        SELECT job_id, status, CAST(:reason AS text), tenant_id FROM taken
        RETURNING job_id
    ), {tell_of_jobs("ended", "job.completed")}, {tally("taken")}
    SELECT count(*) FROM ended
    """
)


@dataclass(frozen=True, slots=True)
class NewItem:
    """A job of a batch, not numbered. Without `queue_ttl_s` it may wait for as long as its batch."""

    version_id: int
    priority: int
    input: bytes
    input_hash: bytes
    queue_ttl_s: float | None
    execution_timeout_s: float
    max_attempts: int
    initial_delay_ms: int
    max_delay_ms: int
    custom_id: str
    encoding: str | None = None
    webhook: str | None = None
    webhook_events: tuple[str, ...] = ()
    use_case: str | None = None
    metadata: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Ingested:
    """How a chunk was written. `ended`: its jobs were made as ended, since their batch runs no longer."""

    ingested: int
    ended: str | None


def append(
    engine: Engine, lease: Lease, items: Sequence[NewItem], next_line: int, next_byte: int
) -> Ingested:
    """Write a chunk's jobs, numbered on from those before, and the place in the file after its last line.

    Of a batch that is cancelling or past its time, they are made as ended. Raises `LeaseLost`.
    """
    with transaction(engine) as connection:
        batch = hold(connection, lease)
        ended = _ended(batch)
        if items:
            first = batch.ingested + 1
            _write(connection, batch, items, first, ready=ended is None)
            if ended is not None:
                _end(connection, batch, first, len(items), ended)
        reached = {
            "batch_id": lease.batch_id,
            "jobs": len(items),
            "next_line": next_line,
            "next_byte": next_byte,
        }
        connection.execute(_REACHED, reached)
    return Ingested(batch.ingested + len(items), ended)


def _ended(batch: Any) -> str | None:
    if batch.status == "cancelling":
        return "canceled"
    return "expired" if batch.expires_at <= batch.now else None


def _end(connection: Connection, batch: Any, first: int, count: int, status: str) -> None:
    parameters = {
        "first": item_uuid(batch.id, first),
        "last": item_uuid(batch.id, first + count - 1),
        "status": status,
        "reason": "queue_ttl_passed" if status == "expired" else None,
    }
    connection.execute(_END_AT_ONCE, parameters)


def _write(connection: Connection, batch: Any, items: Sequence[NewItem], first: int, *, ready: bool) -> None:
    if first + len(items) - 1 > MOST_ITEMS:
        raise ValueError(f"a batch has at most {MOST_ITEMS} jobs")
    ranks = _ranks(connection, batch, items) if ready else {}
    stem, latest = batch.id.hex[:24], batch.expires_at.isoformat()
    tenant, lane = str(batch.tenant_id), str(int(Lane.BATCH))
    rows, places = [], []
    for number, item in enumerate(items, first):
        job_id = f"{stem}{number:08x}"
        version, priority = str(item.version_id), str(item.priority)
        expires = latest if item.queue_ttl_s is None else _expires(batch, item.queue_ttl_s)
        # fmt: off
        rows.append("\t".join((
            job_id, tenant, version, lane, priority, _text(item.input.decode()),
            "\\\\x" + item.input_hash.hex(), expires, repr(item.execution_timeout_s),
            str(item.max_attempts), str(item.initial_delay_ms), str(item.max_delay_ms),
            "\\N" if item.webhook is None else _text(item.webhook),
            "{" + ",".join(item.webhook_events) + "}" if item.webhook else "\\N",
            "\\N" if item.use_case is None else _text(item.use_case),
            _text(orjson.dumps(item.metadata).decode()) if item.metadata else "{}",
            batch.id.hex, _text(item.custom_id), item.encoding or "\\N",
        )))
        # fmt: on
        if ready:
            start, weight, before = ranks[item.version_id]
            ranks[item.version_id] = (start, weight, before + 1)
            rank = start + STEP * before // weight
            places.append("\t".join((job_id, str(rank), expires, version, lane, priority, tenant)))
    copy_in(connection, _JOBS, rows)
    if ready:
        copy_in(connection, _READY, places)


def _ranks(connection: Connection, batch: Any, items: Sequence[NewItem]) -> dict[int, tuple[int, int, int]]:
    """Where in virtual time each version's first job of this chunk stands, the tenant's weight, and 0."""
    counts = Counter(item.version_id for item in items)
    parameters = {
        "tenant_id": batch.tenant_id,
        "versions": list(counts.keys()),
        "counts": list(counts.values()),
    }
    shares = connection.execute(_SHARE, parameters)
    return {
        row.version_id: (row.finish - STEP * counts[row.version_id] // row.weight, row.weight, 0)
        for row in shares
    }


def _expires(batch: Any, queue_ttl_s: float) -> str:
    own: datetime = batch.now + timedelta(seconds=queue_ttl_s)
    return str(min(own, batch.expires_at).isoformat())


def _text(value: str) -> str:
    """A text as COPY reads it."""
    if "\\" in value:
        value = value.replace("\\", "\\\\")
    if value.isprintable():
        return value
    return value.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
