"""The children that run jobs, how fast they are, and what the scaler decided."""

from sqlalchemy import CheckConstraint, Column, Double, Integer, Table, Text, text
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID

from app.db.tables.common import UPDATED, metadata, moment

# One row per worker process (a Celery child). `batch` is what it has in hand: if it dies, these are
# the suspects.
workers = Table(
    "workers",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("name", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("pool", Text, nullable=False),
    Column("purchase", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("queues", ARRAY(Text), nullable=False),
    Column("state", Text, nullable=False),
    Column("cause", Text),
    Column("drain_cause", Text),
    moment("drain_until", null=True),
    moment("started_at", default=True),
    moment("heartbeat_at", default=True),
    Column("batch", ARRAY(UUID), nullable=False, server_default="{}"),
    moment("batch_deadline_at", null=True),
    Column("batch_version_id", Integer),
    Column("models", JSONB, nullable=False, server_default=text("'{}'")),
    # What an executor starts and stops as one (see `app/domain/pools.py`).
    Column("machine", Text, nullable=False, server_default=""),
    CheckConstraint("state IN ('ready', 'draining', 'stopped', 'dead')", name="state"),
    CheckConstraint("purchase IN ('on_demand', 'spot')", name="purchase"),
    CheckConstraint("(state = 'dead') = (cause IS NOT NULL)", name="cause"),
    **UPDATED,
)

# How fast children of a pool work off a version: sums that forget (see `app/db/speeds.py`). They outlive the
# children, so that a pool that was scaled to zero knows what its backlog is worth.
version_speeds = Table(
    "version_speeds",
    metadata,
    Column("version_id", Integer, primary_key=True),
    Column("pool", Text, primary_key=True),
    Column("jobs", Double, nullable=False),
    Column("units", Double, nullable=False),
    Column("seconds", Double, nullable=False),
    moment("measured_at", default=True),
    CheckConstraint("jobs > 0 AND units > 0 AND seconds > 0", name="measured"),
    **UPDATED,
)

# What the scaler last saw of a pool and decided on, in machines. One row per pool.
pool_states = Table(
    "pool_states",
    metadata,
    Column("pool", Text, primary_key=True),
    Column("desired", Integer, nullable=False),
    Column("reason", Text, nullable=False),
    Column("running", Integer, nullable=False),
    Column("starting", Integer, nullable=False),
    Column("draining", Integer, nullable=False),
    Column("backlog_s", Double, nullable=False),
    moment("decided_at", default=True),
    **UPDATED,
)
