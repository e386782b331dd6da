"""The conservation law: every job is in exactly one of ready, deferred, leases, results.

Likewise every webhook delivery is in exactly one of queue, leases, results.

One statement is one snapshot, so the law can be checked while the system works.
"""

from dataclasses import dataclass

from sqlalchemy import Engine, text

from app.db.engine import transaction

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


@dataclass(frozen=True, slots=True)
class Violation:
    """One job, or one webhook delivery, that breaks the law."""

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
        ]
    return Report(counts, tuple(Violation(str(row.id), tuple(row.places), row.problem) for row in rows))
