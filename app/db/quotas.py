"""The SQL of quotas: how many jobs a tenant has."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.domain.lanes import Lane

# Places have no index by tenant, which would cost every move of every job. A scan reads a million rows in a
# fifth of a second, stops at `most`, and whoever asks does so rarely (app/intake/quotas.py).
_HELD = text(
    """
    SELECT (SELECT count(*) FROM (SELECT FROM job_ready WHERE tenant_id = :tenant_id LIMIT :most) r)
         + (SELECT count(*) FROM (SELECT FROM job_deferred WHERE tenant_id = :tenant_id LIMIT :most) d)
         + (SELECT coalesce(sum(greatest(b.total - b.ingested, 0)), 0)
              FROM batch_work w JOIN batches b ON b.id = w.batch_id
             WHERE b.tenant_id = :tenant_id AND b.status = 'in_progress') AS queued,
           (SELECT count(*) FROM (SELECT FROM job_leases WHERE tenant_id = :tenant_id LIMIT :most) l)
             AS running,
           extract(epoch FROM clock_timestamp() - statement_timestamp()) AS took_s
    """
)

_EVERYBODY = text(
    """
    SELECT tenant_id, sum(queued)::bigint AS queued, sum(running)::bigint AS running,
           extract(epoch FROM clock_timestamp() - statement_timestamp()) AS took_s
      FROM (SELECT tenant_id, count(*) AS queued, 0 AS running FROM job_ready GROUP BY 1
             UNION ALL SELECT tenant_id, count(*), 0 FROM job_deferred GROUP BY 1
             UNION ALL SELECT tenant_id, 0, count(*) FROM job_leases GROUP BY 1) places
     GROUP BY tenant_id
    """
)
_TO_COME = text(
    """
    SELECT coalesce(sum(greatest(b.total - b.ingested, 0)), 0) AS jobs
      FROM batches b JOIN batch_work w ON w.batch_id = b.id
     WHERE b.tenant_id = :tenant_id AND b.status = 'in_progress'
    """
)
_WAITING = text(
    f"""
    SELECT version_id, tenant_id, count(*) AS jobs,
           extract(epoch FROM clock_timestamp() - statement_timestamp()) AS took_s
      FROM job_ready
     WHERE version_id = ANY (:version_ids) AND lane = {int(Lane.INTERACTIVE)} GROUP BY 1, 2
    """
)


@dataclass(frozen=True, slots=True)
class Held:
    """Jobs of one tenant: waiting, and on a worker."""

    queued: int
    running: int
    took_s: float = field(default=0.0, compare=False)
    """For how long Postgres counted."""


@dataclass(frozen=True, slots=True)
class Everybody:
    """Jobs by tenant; who has none is absent. Without those that a batch is still to make."""

    jobs: Mapping[int, Held]
    took_s: float = field(default=0.0, compare=False)
    """For how long Postgres counted."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Jobs that wait, by version and tenant; who has none is absent."""

    jobs: Mapping[int, Mapping[int, int]]
    took_s: float = field(default=0.0, compare=False)
    """For how long Postgres counted."""


def held(engine: Engine, tenant_id: int, most: int) -> Held:
    """How many jobs the tenant has; in each place no more than `most` are counted."""
    with connect(engine) as connection:
        row = connection.execute(_HELD, {"tenant_id": tenant_id, "most": most}).one()
    return Held(int(row.queued), int(row.running), float(row.took_s))


def held_by_all(engine: Engine) -> Everybody:
    """How many jobs every tenant has."""
    with connect(engine) as connection:
        rows = connection.execute(_EVERYBODY).all()
    took_s = max((float(row.took_s) for row in rows), default=0.0)
    return Everybody({row.tenant_id: Held(row.queued, row.running) for row in rows}, took_s)


def to_come(engine: Engine, tenant_id: int) -> int:
    """How many jobs the tenant's batches are still to make."""
    with connect(engine) as connection:
        return int(connection.execute(_TO_COME, {"tenant_id": tenant_id}).scalar_one())


def waiting_of_tenants(engine: Engine, version_ids: Collection[int]) -> Waiting:
    """How many interactive jobs of these versions wait."""
    with connect(engine) as connection:
        rows = connection.execute(_WAITING, {"version_ids": list(version_ids)}).all()
    took_s = max((float(row.took_s) for row in rows), default=0.0)
    jobs: dict[int, dict[int, int]] = {}
    for row in rows:
        jobs.setdefault(row.version_id, {})[row.tenant_id] = row.jobs
    return Waiting(jobs, took_s)
