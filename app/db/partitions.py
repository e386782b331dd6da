"""Daily partitions by id. Retention drops a partition, never rows: constant time, no bloat.

Ids are UUIDv7, so a day is a range of ids. Rows of a day without a partition fall into the default
one and are still found; maintenance makes days ahead, so that this is rare.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import Connection, text

from app.db.tables import PARTITIONED
from app.domain.ids import boundary

DAYS_AHEAD = 7

# Any fixed number; it names "partitions of Headrace" among the advisory locks of this database.
LOCK = 0x48455041


def partition_name(table: str, day: datetime) -> str:
    return f"{table}_p{day:%Y%m%d}"


def ensure(connection: Connection, today: datetime, days_ahead: int = DAYS_AHEAD) -> list[str]:
    """Make the partitions from yesterday to `days_ahead` from `today`. Returns the names of new ones."""
    # Two that make the same day at a time would collide in Postgres's own catalogue.
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
    made = []
    midnight = today.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    existing = _existing(connection)
    for offset in range(-1, days_ahead + 1):
        day = midnight + timedelta(days=offset)
        low, high = boundary(day), boundary(day + timedelta(days=1))
        for table in PARTITIONED:
            name = partition_name(table.name, day)
            if name in existing:
                continue
            connection.execute(
                text(
                    f"CREATE TABLE IF NOT EXISTS {name} PARTITION OF {table.name}"
                    f" FOR VALUES FROM ('{low}') TO ('{high}')"
                )
            )
            made.append(name)
    return made


def drop_before(connection: Connection, horizon: datetime) -> list[str]:
    """Drop whole days that ended before `horizon`, unless a job, batch or delivery of it is still alive.

    Returns the names of the dropped partitions.
    """
    existing = _existing(connection)
    days = sorted({name.rsplit("_p", 1)[1] for name in existing if name.rsplit("_p", 1)[1].isdigit()})
    dropped = []
    for stamp in days:
        day = datetime.strptime(stamp, "%Y%m%d").replace(tzinfo=UTC)
        end = day + timedelta(days=1)
        if end > horizon:
            break
        alive = connection.execute(
            text(
                """
                SELECT EXISTS (SELECT 1 FROM job_ready    WHERE job_id >= :low AND job_id < :high)
                    OR EXISTS (SELECT 1 FROM job_deferred WHERE job_id >= :low AND job_id < :high)
                    OR EXISTS (SELECT 1 FROM job_leases   WHERE job_id >= :low AND job_id < :high)
                    OR EXISTS (SELECT 1 FROM webhook_queue
                                WHERE delivery_id >= :low AND delivery_id < :high)
                    OR EXISTS (SELECT 1 FROM batch_work   WHERE batch_id >= :low AND batch_id < :high)
                    OR EXISTS (SELECT 1 FROM webhook_leases
                                WHERE delivery_id >= :low AND delivery_id < :high)
                """
            ),
            {"low": boundary(day), "high": boundary(end)},
        ).scalar_one()
        if alive:
            continue
        for table in PARTITIONED:
            name = partition_name(table.name, day)
            if name in existing:
                connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
                dropped.append(name)
    return dropped


def _existing(connection: Connection) -> set[str]:
    rows = connection.execute(
        text(
            "SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid"
            " WHERE i.inhparent = ANY (CAST(:parents AS regclass[]))"
        ),
        {"parents": [table.name for table in PARTITIONED]},
    )
    return {row.relname for row in rows}
