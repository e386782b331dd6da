"""The SQL of quotas: how many jobs a tenant has."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.domain.lanes import Lane

# Places have no index by tenant, which would cost every move of every job. A scan reads a million rows in a
# fifth of a second, and is for many tenants at once (app/intake/quotas.py).
_COUNT = """
    SELECT tenant_id, coalesce(sum(queued), 0)::bigint AS queued,
           coalesce(sum(running), 0)::bigint AS running,
           extract(epoch FROM clock_timestamp() - statement_timestamp()) AS took_s
"""
_PLACES = """
    SELECT tenant_id, count(*) AS queued, 0 AS running FROM job_ready {where} GROUP BY 1
     UNION ALL SELECT tenant_id, count(*), 0 FROM job_deferred {where} GROUP BY 1
     UNION ALL SELECT tenant_id, 0, count(*) FROM job_leases {where} GROUP BY 1
"""
_TO_COME = """
    SELECT b.tenant_id, coalesce(sum(greatest(b.total - b.ingested, 0)), 0) AS jobs, 0
      FROM batches b JOIN batch_work w ON w.batch_id = b.id
     WHERE b.tenant_id = ANY (:tenant_ids) AND b.status = 'in_progress' GROUP BY 1
"""
_HELD = text(
    f"""
    WITH places AS MATERIALIZED (
        {_PLACES.format(where="WHERE tenant_id = ANY (:tenant_ids)")} UNION ALL {_TO_COME}
    )
    {_COUNT}
      FROM unnest(CAST(:tenant_ids AS integer[])) AS asked (tenant_id) LEFT JOIN places USING (tenant_id)
     GROUP BY tenant_id
    """
)
_EVERYBODY = text(f"{_COUNT} FROM ({_PLACES.format(where='')}) places GROUP BY tenant_id")
_TO_COME_ALONE = text(_TO_COME)
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


def held(engine: Engine, tenant_ids: Collection[int]) -> dict[int, Held]:
    """How many jobs each of these tenants has, with those that its batches are still to make."""
    with connect(engine) as connection:
        rows = connection.execute(_HELD, {"tenant_ids": list(tenant_ids)}).all()
    return {row.tenant_id: Held(row.queued, row.running, float(row.took_s)) for row in rows}


def held_by_all(engine: Engine) -> Everybody:
    """How many jobs every tenant has."""
    with connect(engine) as connection:
        rows = connection.execute(_EVERYBODY).all()
    took_s = max((float(row.took_s) for row in rows), default=0.0)
    return Everybody({row.tenant_id: Held(row.queued, row.running) for row in rows}, took_s)


def to_come(engine: Engine, tenant_id: int) -> int:
    """How many jobs the tenant's batches are still to make."""
    with connect(engine) as connection:
        row = connection.execute(_TO_COME_ALONE, {"tenant_ids": [tenant_id]}).one_or_none()
    return int(row.jobs) if row else 0


def waiting_of_tenants(engine: Engine, version_ids: Collection[int]) -> Waiting:
    """How many interactive jobs of these versions wait."""
    with connect(engine) as connection:
        rows = connection.execute(_WAITING, {"version_ids": list(version_ids)}).all()
    took_s = max((float(row.took_s) for row in rows), default=0.0)
    jobs: dict[int, dict[int, int]] = {}
    for row in rows:
        jobs.setdefault(row.version_id, {})[row.tenant_id] = row.jobs
    return Waiting(jobs, took_s)
