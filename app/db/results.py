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


def ended(engine: Engine, job_ids: Collection[UUID]) -> Sequence[Any]:
    """`job_id, status, output, error, units` of those of these jobs that ended. Of any tenant."""
    with connect(engine) as connection:
        return connection.execute(_ENDED, {"ids": list(job_ids)}).all()
