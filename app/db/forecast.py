"""The SQL of forecasts: how many jobs are served before one that waits, and how fast."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Engine, text

from app.db.engine import connect, rows
from app.domain.lanes import Device, Lane

MOST = 10_000
"""Jobs that are counted: so many index entries take a millisecond or two."""

_AHEAD = text(
    """
    SELECT mine.version_id, mine.lane, v.device,
           (SELECT count(*) FROM (
               SELECT FROM job_ready r
                WHERE r.version_id = mine.version_id AND r.lane = mine.lane
                  AND (r.priority, r.rank, r.job_id) < (mine.priority, mine.rank, mine.job_id)
                LIMIT :most) few) AS ahead
      FROM job_ready mine JOIN model_versions v ON v.id = mine.version_id
     WHERE mine.job_id = :job_id
    """
)
# A job that runs counts as half done. Children listen to queues of several versions: what others need of
# them is not known here.
_PACE = text(
    """
    SELECT (SELECT sum(jobs) / sum(seconds) FROM version_speeds WHERE version_id = :version_id) AS each,
           (SELECT count(*) FROM job_leases l WHERE l.version_id = :version_id AND l.lane = :lane) AS running
    """
)
_CHILDREN = text("SELECT count(*) FROM workers WHERE state = 'ready' AND :queue = ANY (queues)")


@dataclass(frozen=True, slots=True)
class Ahead:
    """What is served before a job that waits: `MOST` jobs, or more, if that many."""

    version_id: int
    lane: Lane
    device: Device
    jobs: int


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast a version's queue is worked off: jobs that run now, and jobs a second of one child, which is
    not known before the first one ran.
    """

    each: float | None
    running: int

    def seconds(self, ahead: int, children: int) -> float | None:
        """Until a job with so many ahead has ended, if nothing else comes, and that is all they do."""
        if not self.each or not children:
            return None
        return (ahead + 1 + self.running / 2) / (self.each * children)


def ahead(engine: Engine, job_id: UUID) -> Ahead | None:
    """What is before this job; None if it doesn't wait for a worker."""
    for row in rows(engine, _AHEAD, {"job_id": job_id, "most": MOST}):
        return Ahead(row.version_id, Lane(row.lane), Device(row.device), row.ahead)
    return None


def pace(engine: Engine, of: Ahead) -> Pace:
    """How fast a child works off the queue of this version and lane."""
    asked = {"version_id": of.version_id, "lane": int(of.lane)}
    with connect(engine) as connection:
        row = connection.execute(_PACE, asked).one()
    return Pace(row.each, row.running)


def children(engine: Engine, queue: str) -> int:
    """How many children listen to this queue."""
    with connect(engine) as connection:
        return int(connection.execute(_CHILDREN, {"queue": queue}).scalar_one())
