"""The SQL of claim: ready → leases, with a fencing epoch, in one statement."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import rows
from app.db.outbox import tell_of_jobs
from app.domain.lanes import Lane, Priority
from app.domain.retry import RetryPolicy
from app.domain.stages import ClaimedJob

# `in_hand` notes on the worker's row which jobs it holds before any of their data is touched: if the
# process dies from here on, these are the suspects. What is claimed ahead is not in hand: another
# micro-batch runs, and is. A worker that was declared dead claims nothing.
# Inputs will lie in memory, so their sizes as stored are added up; no value is read for it.
# LATERAL … OFFSET 0 keeps the planner from joining all partitions of jobs to find a handful of rows.
_CLAIM = text(
    f"""
    WITH alive AS MATERIALIZED (
        SELECT id FROM workers WHERE id = :worker_id AND state = 'ready'
    ), waiting AS MATERIALIZED (
        SELECT count(*) AS jobs FROM (
            SELECT FROM job_ready
             WHERE version_id = :version_id AND lane = :lane AND expires_at > now()
             LIMIT CAST(:most AS bigint) * CAST(:sharers AS bigint) + 1
        ) few
    ), next AS MATERIALIZED (
        SELECT job_id, priority, rank FROM job_ready
         WHERE version_id = :version_id AND lane = :lane AND expires_at > now()
           AND EXISTS (SELECT FROM alive)
         ORDER BY priority, rank, job_id
         LIMIT (SELECT greatest(CAST(:least AS bigint), least(:most, (jobs + :sharers - 1) / :sharers))
                  FROM waiting)
           FOR UPDATE SKIP LOCKED
    ), sized AS (
        SELECT job_id, row_number() OVER upto AS place, sum(j.bytes) OVER upto AS bytes
          FROM next
         CROSS JOIN LATERAL (
            SELECT coalesce(pg_column_size(input), 0) AS bytes FROM jobs WHERE id = job_id OFFSET 0) j
        WINDOW upto AS (ORDER BY priority, rank, job_id ROWS UNBOUNDED PRECEDING)
    ), picked AS MATERIALIZED (
        SELECT job_id FROM sized WHERE place = 1 OR bytes <= CAST(:most_bytes AS bigint)
    ), taken AS (
        DELETE FROM job_ready r USING picked p WHERE r.job_id = p.job_id RETURNING r.*
    ), token AS MATERIALIZED (
        SELECT nextval('lease_epoch') AS epoch
    ), leased AS (
        INSERT INTO job_leases (job_id, version_id, lane, priority, rank, expires_at,
                                attempt, crashes, batch_cap, epoch, worker_id, tenant_id)
        SELECT t.job_id, t.version_id, t.lane, t.priority, t.rank, t.expires_at,
               t.attempt, t.crashes, t.batch_cap, token.epoch, :worker_id, t.tenant_id
          FROM taken t, token
        RETURNING job_id, epoch, attempt, crashes, batch_cap, priority, rank
    ), started AS (
        -- A job that runs again is not told of again.
        SELECT job_id FROM leased WHERE attempt = 0 AND crashes = 0
    ), {tell_of_jobs("started", "job.started")}, in_hand AS (
        UPDATE workers
           SET batch = (SELECT array_agg(job_id) FROM leased), batch_version_id = :version_id,
               batch_deadline_at = now() + make_interval(secs => :budget_s)
         WHERE id = :worker_id AND CAST(:in_hand AS boolean) AND EXISTS (SELECT FROM leased)
    )
    SELECT l.job_id, l.epoch, l.attempt, l.crashes, l.batch_cap, l.priority,
           l.job_id = ANY (ARRAY(SELECT job_id FROM told)) AS told,
           j.tenant_id, j.input, j.execution_timeout_s, j.max_attempts, j.initial_delay_ms,
           j.max_delay_ms, w.jobs AS waiting
      FROM leased l
     CROSS JOIN waiting w
     CROSS JOIN LATERAL (SELECT * FROM jobs WHERE id = l.job_id OFFSET 0) j
     ORDER BY l.priority, l.rank, l.job_id
    """
)


_PRIORITIES = {int(priority): priority for priority in Priority}

MOST_BYTES = 64 * 2**20
"""Of inputs in one claim, as they are stored: what a child holds at once. One job alone may be larger."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What one claim took, most urgent first, and whether it left something for others."""

    jobs: Sequence[ClaimedJob]
    more: bool


def claim(
    engine: Engine,
    worker_id: UUID,
    version_id: int,
    lane: Lane,
    most: int,
    budget_s: float,
    *,
    least: int | None = None,
    sharers: int = 1,
    most_bytes: int = MOST_BYTES,
    in_hand: bool = True,
) -> Claimed:
    """Lease jobs to the worker, most urgent first: `1/sharers` of what is ready, but at least `least`
    (`most` by default), at most `most`, and after the first none that brings the inputs over `most_bytes`.

    `in_hand` notes them on the worker's row, and `budget_s` is how long preparing them may take before it
    counts as stuck.
    """
    found = rows(
        engine,
        _CLAIM,
        {
            "worker_id": worker_id,
            "version_id": version_id,
            "lane": int(lane),
            "most": most,
            "least": most if least is None else least,
            "sharers": sharers,
            "budget_s": budget_s,
            "most_bytes": most_bytes,
            "in_hand": in_hand,
        },
    )
    # Most jobs of a window have the same policy.
    policy = cache(RetryPolicy)
    jobs = [
        ClaimedJob(
            id=id,
            epoch=epoch,
            input=value,
            attempt=attempt,
            crashes=crashes,
            batch_cap=batch_cap,
            execution_timeout_s=execution_timeout_s,
            retry=policy(*retry),
            told=told,
            priority=_PRIORITIES[priority],
            tenant_id=tenant_id,
        )
        for (
            id,
            epoch,
            attempt,
            crashes,
            batch_cap,
            priority,
            told,
            tenant_id,
            value,
            execution_timeout_s,
            *retry,
            _,
        ) in found
    ]
    return Claimed(jobs, bool(found) and found[0].waiting > len(found))
