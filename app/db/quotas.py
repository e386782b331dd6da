"""The SQL of quotas: how many jobs a tenant has."""

from collections.abc import Mapping
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

_WAITING = text(
    f"""
    SELECT tenant_id, count(*) AS jobs,
           extract(epoch FROM clock_timestamp() - statement_timestamp()) AS took_s
      FROM job_ready
     WHERE version_id = :version_id AND lane = {int(Lane.INTERACTIVE)} GROUP BY tenant_id
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
class Waiting:
    """Jobs of one version that wait, by tenant; who has none is absent."""

    jobs: Mapping[int, int]
    took_s: float = field(default=0.0, compare=False)
    """For how long Postgres counted."""


def held(engine: Engine, tenant_id: int, most: int) -> Held:
    """How many jobs the tenant has; in each place no more than `most` are counted."""
    with connect(engine) as connection:
        row = connection.execute(_HELD, {"tenant_id": tenant_id, "most": most}).one()
    return Held(int(row.queued), int(row.running), float(row.took_s))


def waiting_of_tenants(engine: Engine, version_id: int) -> Waiting:
    """How many interactive jobs of this version wait."""
    with connect(engine) as connection:
        rows = connection.execute(_WAITING, {"version_id": version_id}).all()
    took_s = max((float(row.took_s) for row in rows), default=0.0)
    return Waiting({row.tenant_id: row.jobs for row in rows}, took_s)
