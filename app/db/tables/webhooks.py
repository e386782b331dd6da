"""Who wants to be told, the outbox, and the places of a delivery."""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSON, UUID

from app.db.tables.common import CHURN, metadata, moment

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("tenant_id", Integer, ForeignKey("tenants.id"), nullable=False),
    Column("url", Text, nullable=False),
    Column("events", ARRAY(Text), nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("status", Text, nullable=False, server_default="enabled"),
    Column("disabled_reason", Text),
    moment("failing_since", null=True),
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    moment("previous_secret_expires_at", null=True),
    moment("created_at", default=True),
    moment("updated_at", default=True),
    Index("webhook_endpoints_tenant_id_id_idx", "tenant_id", "id"),
    CheckConstraint("status IN ('enabled', 'disabled')", name="status"),
    CheckConstraint("(status = 'disabled') = (disabled_reason IS NOT NULL)", name="disabled_reason"),
)

# The outbox: one row is one event for one URL, written by the statement that made the event true.
# Where a delivery stands is the table its other row is in: queue, leases or results.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("tenant_id", Integer, nullable=False),
    Column("endpoint_id", UUID),
    Column("url", Text, nullable=False),
    Column("event", Text, nullable=False),
    # What the event is about, read as it is sent: a job or a batch.
    Column("job_id", UUID),
    Column("batch_id", UUID),
    # The event's `data`, when it is neither.
    Column("payload", JSON),
    moment("created_at", default=True),
    Index("webhook_deliveries_tenant_id_id_idx", "tenant_id", "id"),
    Index("webhook_deliveries_job_id_idx", "job_id"),
    postgresql_partition_by="RANGE (id)",
)


def _delivery_place() -> list[Column[Any]]:
    """`target` is what shares one receiver's fate: an endpoint, or a tenant's per-job URLs of one origin."""
    return [
        Column("delivery_id", UUID, primary_key=True),
        Column("target", Text, nullable=False),
        Column("endpoint_id", UUID),
        Column("attempt", SmallInteger, nullable=False, server_default="0"),
    ]


webhook_queue = Table(
    "webhook_queue",
    metadata,
    *_delivery_place(),
    moment("due_at"),
    Index("webhook_queue_claim_idx", "target", "due_at", "delivery_id"),
    Index("webhook_queue_due_at_idx", "due_at"),
    **CHURN,
)

webhook_leases = Table(
    "webhook_leases",
    metadata,
    *_delivery_place(),
    Column("epoch", BigInteger, nullable=False),
    Column("worker_id", UUID, nullable=False),
    moment("claimed_at"),
    Index("webhook_leases_worker_id_idx", "worker_id"),
    **CHURN,
)

webhook_results = Table(
    "webhook_results",
    metadata,
    Column("delivery_id", UUID, primary_key=True),
    Column("status", Text, nullable=False),
    Column("error", Text),
    moment("completed_at"),
    CheckConstraint("status IN ('delivered', 'failed', 'canceled')", name="status"),
    CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error"),
    postgresql_partition_by="RANGE (delivery_id)",
)

webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("delivery_id", UUID, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("attempt", SmallInteger, nullable=False),
    moment("started_at"),
    Column("status_code", SmallInteger),
    Column("latency_s", REAL),
    Column("error", Text),
    postgresql_partition_by="RANGE (delivery_id)",
)
