"""The SQL of `version_speeds`: how fast one child of a pool works off a version.

Sums that forget: what was measured before counts less the more seconds of work are added. Any number of
children add to one row, and no order of theirs matters much.
"""

from collections.abc import Mapping

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.domain.cost import Work

MEMORY_S = 600.0
"""About how many seconds of work count."""

_NOTE = text(
    """
    INSERT INTO version_speeds AS s (version_id, pool, jobs, units, seconds)
    SELECT version_id, :pool, jobs, units, seconds
      FROM unnest(CAST(:version_ids AS integer[]), CAST(:jobs AS float8[]), CAST(:units AS float8[]),
                  CAST(:seconds AS float8[])) AS t (version_id, jobs, units, seconds)
     -- One order for all children, so that none waits for another in a circle.
     ORDER BY version_id
    ON CONFLICT (version_id, pool) DO UPDATE
       SET jobs = s.jobs * exp(-excluded.seconds / :memory_s) + excluded.jobs,
           units = s.units * exp(-excluded.seconds / :memory_s) + excluded.units,
           seconds = s.seconds * exp(-excluded.seconds / :memory_s) + excluded.seconds,
           measured_at = now()
    """
)


def note(engine: Engine, pool: str, worked: Mapping[int, Work]) -> None:
    """Add what a child of this pool worked off, by version id."""
    if not worked:
        return
    with connect(engine) as connection:
        connection.execute(
            _NOTE,
            {
                "pool": pool,
                "memory_s": MEMORY_S,
                "version_ids": list(worked),
                "jobs": [work.jobs for work in worked.values()],
                "units": [work.units for work in worked.values()],
                "seconds": [work.seconds for work in worked.values()],
            },
        )
