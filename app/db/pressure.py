"""The SQL of back-pressure: how much work waits for each kind of device, and who listens for it."""

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Engine, text

from app.db.engine import connect
from app.domain.lanes import Device
from app.domain.pressure import Load

# A version's job counts as its usual one. Work is unknown (null) while any of what waits was never measured.
# Results are counted by the statistics that Postgres keeps anyway, a second or so late: nothing else has to.
_WORK = text(
    """
    WITH waits AS (
        SELECT version_id, lane, count(*) AS jobs, min(uuid_extract_timestamp(job_id)) AS oldest
          FROM job_ready GROUP BY 1, 2
    ), speeds AS (
        SELECT version_id, sum(seconds) / sum(jobs) AS each_s FROM version_speeds GROUP BY 1
    ), found AS (
        SELECT v.device, lane, sum(jobs) AS jobs, min(oldest) AS oldest,
               CASE WHEN count(*) = count(each_s) THEN sum(jobs * each_s) END AS work_s
          FROM waits w JOIN model_versions v ON v.id = w.version_id
          LEFT JOIN speeds s ON s.version_id = w.version_id
         GROUP BY 1, 2
    ), loads AS (
        SELECT device,
               coalesce(sum(jobs) FILTER (WHERE lane = 0), 0) AS interactive,
               coalesce(sum(jobs) FILTER (WHERE lane = 1), 0) AS batch,
               sum(work_s) FILTER (WHERE lane = 0) AS interactive_s,
               sum(work_s) FILTER (WHERE lane = 1) AS batch_s,
               extract(epoch FROM clock_timestamp() - min(oldest) FILTER (WHERE lane = 0)) AS oldest_s
          FROM found GROUP BY 1
    ), listening AS (
        SELECT l.device || '.interactive' = ANY (w.queues) AS to_interactive,
               l.device || '.batch' = ANY (w.queues) AS to_batch, l.device
          FROM loads l CROSS JOIN workers w WHERE w.state = 'ready'
    )
    SELECT l.*, c.*,
           extract(epoch FROM clock_timestamp() - statement_timestamp()) AS took_s,
           (SELECT coalesce(sum(pg_stat_get_tuples_inserted(inhrelid)), 0)
              FROM pg_inherits WHERE inhparent = CAST('job_results' AS regclass)) AS results
      FROM (VALUES (1)) one (row) LEFT JOIN loads l ON true
     CROSS JOIN LATERAL (
        SELECT count(*) FILTER (WHERE to_interactive) AS on_interactive,
               count(*) FILTER (WHERE to_batch) AS on_batch,
               count(*) FILTER (WHERE to_interactive AND to_batch) AS on_both
          FROM listening WHERE listening.device = l.device) c
    """
)


@dataclass(frozen=True, slots=True)
class Work:
    """What waits, by device; where nothing does, the device is absent. And results written ever, roughly."""

    loads: Mapping[Device, Load]
    results: int
    took_s: float = 0.0
    """For how long Postgres counted."""


def work(engine: Engine) -> Work:
    """How much work waits now."""
    with connect(engine) as connection:
        rows = connection.execute(_WORK).all()
    loads = {
        Device(row.device): Load(
            interactive=int(row.interactive),
            batch=int(row.batch),
            interactive_s=row.interactive_s if row.interactive else 0.0,
            batch_s=row.batch_s if row.batch else 0.0,
            on_interactive=row.on_interactive,
            on_batch=row.on_batch,
            on_both=row.on_both,
            oldest_s=float(row.oldest_s or 0.0),
        )
        for row in rows
        if row.device is not None
    }
    return Work(loads, int(rows[0].results), float(rows[0].took_s))
