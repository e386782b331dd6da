"""The conservation law: every job is in exactly one of ready, deferred, leases, results.

Likewise every webhook delivery is in exactly one of queue, leases, results. And what a batch's tallies say
is what its jobs' results say.

One statement is one snapshot, so the law can be checked while the system works.
"""

from dataclasses import dataclass

from sqlalchemy import Engine, text

from app.db.engine import transaction
from app.db.tally import batch_of

_COUNTS = text(
    """
    SELECT (SELECT count(*) FROM jobs) AS jobs, (SELECT count(*) FROM job_ready) AS ready,
           (SELECT count(*) FROM job_deferred) AS deferred,
           (SELECT count(*) FROM job_leases) AS leased, (SELECT count(*) FROM job_results) AS results
    """
)
_VIOLATIONS = text(
    """
    WITH places AS (
        SELECT job_id, 'job_ready' AS place FROM job_ready
        UNION ALL SELECT job_id, 'job_deferred' FROM job_deferred
        UNION ALL SELECT job_id, 'job_leases' FROM job_leases
        UNION ALL SELECT job_id, 'job_results' FROM job_results
    ), held AS (
        SELECT job_id, array_agg(place ORDER BY place) AS places FROM places GROUP BY job_id
    )
    SELECT coalesce(j.id, h.job_id) AS id, coalesce(h.places, '{}') AS places,
           CASE WHEN j.id IS NULL THEN 'no such job'
                WHEN h.job_id IS NULL THEN 'lost: in no place'
                ELSE 'in more than one place' END AS problem
      FROM jobs j FULL JOIN held h ON h.job_id = j.id
     WHERE j.id IS NULL OR h.job_id IS NULL OR cardinality(h.places) > 1
     LIMIT :limit
    """
)
_DELIVERY_VIOLATIONS = text(
    """
    WITH places AS (
        SELECT delivery_id, 'webhook_queue' AS place FROM webhook_queue
        UNION ALL SELECT delivery_id, 'webhook_leases' FROM webhook_leases
        UNION ALL SELECT delivery_id, 'webhook_results' FROM webhook_results
    ), held AS (
        SELECT delivery_id, array_agg(place ORDER BY place) AS places FROM places GROUP BY delivery_id
    )
    SELECT coalesce(d.id, h.delivery_id) AS id, coalesce(h.places, '{}') AS places,
           CASE WHEN d.id IS NULL THEN 'no such delivery'
                WHEN h.delivery_id IS NULL THEN 'delivery lost: in no place'
                ELSE 'delivery in more than one place' END AS problem
      FROM webhook_deliveries d FULL JOIN held h ON h.delivery_id = d.id
     WHERE d.id IS NULL OR h.delivery_id IS NULL OR cardinality(h.places) > 1
     LIMIT :limit
    """
)
_UNEXPLAINED = text(
    """
    SELECT r.job_id AS id, ARRAY['job_results'] AS places,
           'succeeded without a succeeded attempt of its epoch' AS problem
      FROM job_results r
     WHERE r.status = 'succeeded'
       AND NOT EXISTS (SELECT FROM job_attempts a WHERE a.job_id = r.job_id AND a.epoch = r.epoch
                          AND a.outcome = 'succeeded')
     LIMIT :limit
    """
)
_BATCH_VIOLATIONS = text(
    f"""
    WITH told AS (
        SELECT batch_id, sum(succeeded) AS succeeded, sum(failed) AS failed, sum(canceled) AS canceled,
               sum(expired) AS expired
          FROM batch_tallies GROUP BY batch_id
    ), found AS (
        SELECT {batch_of("job_id")} AS batch_id,
               count(*) FILTER (WHERE status = 'succeeded') AS succeeded,
               count(*) FILTER (WHERE status = 'failed') AS failed,
               count(*) FILTER (WHERE status = 'canceled') AS canceled,
               count(*) FILTER (WHERE status = 'expired') AS expired
          FROM job_results r
         WHERE EXISTS (SELECT FROM batches b WHERE b.id = {batch_of("r.job_id")}) GROUP BY 1
    ), made AS (
        SELECT batch_id, count(*) AS jobs FROM jobs WHERE batch_id IS NOT NULL GROUP BY batch_id
    ), judged AS (
        SELECT b.id, b.total, b.ingested, coalesce(m.jobs, 0) AS jobs,
               coalesce(t.succeeded + t.failed + t.canceled + t.expired, 0) AS ended,
               (coalesce(t.succeeded, 0), coalesce(t.failed, 0), coalesce(t.canceled, 0),
                coalesce(t.expired, 0))
               IS DISTINCT FROM
               (coalesce(f.succeeded, 0), coalesce(f.failed, 0), coalesce(f.canceled, 0),
                coalesce(f.expired, 0)) AS differ,
               b.status IN ('completed', 'failed', 'expired', 'cancelled') AS over
          FROM batches b
          LEFT JOIN told t ON t.batch_id = b.id
          LEFT JOIN found f ON f.batch_id = b.id
          LEFT JOIN made m ON m.batch_id = b.id
    )
    SELECT id, ARRAY['batch_tallies'] AS places,
           CASE WHEN differ THEN 'batch: its tallies are not what its results say'
                WHEN ended > coalesce(total, 0) THEN 'batch: more jobs ended than it has'
                WHEN jobs <> ingested THEN 'batch: it has other jobs than were made of its file'
                ELSE 'batch: it is over, and jobs of it are not' END AS problem
      FROM judged
     WHERE differ OR ended > coalesce(total, 0) OR jobs <> ingested OR over AND ended <> coalesce(total, 0)
     LIMIT :limit
    """
)


@dataclass(frozen=True, slots=True)
class Violation:
    """One job, webhook delivery or batch that breaks the law."""

    id: str
    places: tuple[str, ...]
    problem: str


@dataclass(frozen=True, slots=True)
class Report:
    """Rows per place and the violations (at most `limit` of each kind)."""

    counts: dict[str, int]
    violations: tuple[Violation, ...]


def check(engine: Engine, limit: int = 100) -> Report:
    """Count every place and list every job that is not in exactly one, in one snapshot."""
    with transaction(engine) as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        counts = dict(connection.execute(_COUNTS).one()._mapping)
        rows = [
            *connection.execute(_VIOLATIONS, {"limit": limit}),
            *connection.execute(_UNEXPLAINED, {"limit": limit}),
            *connection.execute(_DELIVERY_VIOLATIONS, {"limit": limit}),
            *connection.execute(_BATCH_VIOLATIONS, {"limit": limit}),
        ]
    return Report(counts, tuple(Violation(str(row.id), tuple(row.places), row.problem) for row in rows))
