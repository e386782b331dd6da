"""The SQL that reads what came of many jobs at once."""

from collections.abc import Collection, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import connect

# LATERAL … OFFSET 0 keeps the planner from joining all partitions of results to find a handful of rows.
_ENDED = text(
    """
    SELECT res.job_id, res.status, res.output, res.error, res.units
      FROM unnest(CAST(:ids AS uuid[])) AS wanted (id)
     CROSS JOIN LATERAL (SELECT * FROM job_results WHERE job_id = wanted.id OFFSET 0) res
    """
)

_OF_RANGE = text(
    """
    SELECT res.job_id, res.status, res.output, res.error, j.custom_id
      FROM (SELECT * FROM job_results WHERE job_id > :after AND job_id <= :last
             ORDER BY job_id LIMIT :limit) res
     CROSS JOIN LATERAL (SELECT custom_id FROM jobs WHERE id = res.job_id OFFSET 0) j
     ORDER BY res.job_id
    """
)


def ended(engine: Engine, job_ids: Collection[UUID]) -> Sequence[Any]:
    """`job_id, status, output, error, units` of those of these jobs that ended. Of any tenant."""
    with connect(engine) as connection:
        return connection.execute(_ENDED, {"ids": list(job_ids)}).all()


def of_range(engine: Engine, after: UUID, last: UUID, limit: int) -> Sequence[Any]:
    """`job_id, custom_id, status, output, error` of jobs that ended, by id: after `after`, up to `last`."""
    with connect(engine) as connection:
        return connection.execute(_OF_RANGE, {"after": after, "last": last, "limit": limit}).all()
