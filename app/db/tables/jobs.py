"""What was asked, the places that a job's row is in, and what is written of its runs."""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy import Sequence as DbSequence
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, UUID

from app.db.tables.common import CHURN, UPDATED, metadata, moment, whose

# Epochs come from one sequence, never from a counter on the job: a counter can return to an old value.
lease_epoch = DbSequence("lease_epoch", metadata=metadata, data_type=BigInteger, cache=1)

# json and not jsonb for inputs and outputs: a client gets back the numbers it sent, \u0000 is legal,
# and nothing is parsed into a tree to be written.
jobs = Table(
    "jobs",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("tenant_id", Integer, nullable=False),
    Column("version_id", Integer, nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("priority", SmallInteger, nullable=False),
    Column("input", JSON),
    Column("input_hash", LargeBinary, nullable=False),
    moment("expires_at"),
    Column("execution_timeout_s", Double, nullable=False),
    Column("max_attempts", SmallInteger, nullable=False),
    Column("initial_delay_ms", Integer, nullable=False),
    Column("max_delay_ms", Integer, nullable=False),
    Column("webhook", Text),
    Column("webhook_events", ARRAY(Text)),
    Column("use_case", Text),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("batch_id", UUID),
    Column("custom_id", Text),
    # How a line of a batch wants its vectors; null for what is no embedding.
    Column("encoding", Text),
    Column("retry_of", UUID),
    moment("created_at", default=True),
    moment("erased_at", null=True),
    Index("jobs_tenant_id_id_idx", "tenant_id", "id"),
    CheckConstraint("erased_at IS NULL OR input IS NULL", name="erased"),
    postgresql_partition_by="RANGE (id)",
)


def _place() -> list[Column[Any]]:
    """What travels with a job from place to place: where it queues, in which order, what it went through."""
    return [
        Column("job_id", UUID, primary_key=True),
        Column("rank", BigInteger, nullable=False),
        moment("expires_at"),
        Column("version_id", Integer, nullable=False),
        Column("lane", SmallInteger, nullable=False),
        Column("priority", SmallInteger, nullable=False),
        Column("attempt", SmallInteger, nullable=False, server_default="0"),
        Column("crashes", SmallInteger, nullable=False, server_default="0"),
        Column("batch_cap", SmallInteger),
        Column("reason", Text),
        # Whose it is, for counting. No index: it would cost every move.
        Column("tenant_id", Integer),
    ]


job_ready = Table(
    "job_ready",
    metadata,
    *_place(),
    Index("job_ready_claim_idx", "version_id", "lane", "priority", "rank", "job_id"),
    **CHURN,
)

job_deferred = Table(
    "job_deferred",
    metadata,
    *_place(),
    moment("run_at"),
    Index("job_deferred_run_at_idx", "run_at"),
    **CHURN,
)

job_leases = Table(
    "job_leases",
    metadata,
    *_place(),
    Column("epoch", BigInteger, nullable=False),
    Column("worker_id", UUID, nullable=False),
    moment("claimed_at", default=True),
    Column("cancel_requested", Boolean, nullable=False, server_default="false"),
    Index("job_leases_worker_id_idx", "worker_id"),
    **CHURN,
)

job_results = Table(
    "job_results",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("status", Text, nullable=False),
    Column("output", JSON),
    Column("error", JSON),
    Column("reason", Text),
    moment("started_at", null=True),
    moment("completed_at", default=True),
    Column("epoch", BigInteger),
    Column("device", Text),
    Column("batch_size", Integer),
    Column("units", Integer),
    Column("run_s", REAL),
    Column("device_s", REAL),
    whose(),
    CheckConstraint("status IN ('succeeded', 'failed', 'canceled', 'expired')", name="status"),
    CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name="error"),
    CheckConstraint("status = 'succeeded' OR output IS NULL", name="output"),
    postgresql_partition_by="RANGE (job_id)",
)

# `attempt` says which of the job's `max_attempts` this run was; a run that costs none leaves its number
# to the next.
job_attempts = Table(
    "job_attempts",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("epoch", BigInteger, primary_key=True),
    Column("attempt", SmallInteger, nullable=False),
    Column("worker_id", UUID, nullable=False),
    Column("pool", Text),
    Column("purchase", Text),
    Column("device", Text),
    moment("started_at"),
    moment("ended_at", default=True),
    Column("run_s", REAL),
    Column("device_s", REAL, nullable=False, server_default="0"),
    Column("batch_size", Integer),
    Column("units", Integer),
    Column("outcome", Text, nullable=False),
    Column("error_code", Text),
    whose(),
    CheckConstraint(
        "outcome IN ('succeeded', 'error', 'canceled', 'crashed', 'timeout', 'lost', 'released')",
        name="outcome",
    ),
    postgresql_partition_by="RANGE (job_id)",
)

job_progress = Table(
    "job_progress",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("fraction", REAL, nullable=False),
    Column("message", Text),
    moment("updated_at", default=True),
    whose(),
    CheckConstraint("fraction >= 0 AND fraction <= 1", name="fraction"),
    **CHURN,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Integer, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("resource_id", UUID, nullable=False),
    moment("created_at", default=True),
    Index("idempotency_keys_created_at_idx", "created_at"),
    **CHURN,
)

# Up to which virtual time a tenant's jobs of the batch lane reach (see `app/db/ingest.py`).
fair_shares = Table(
    "fair_shares",
    metadata,
    Column("tenant_id", Integer, primary_key=True),
    Column("version_id", Integer, primary_key=True),
    Column("finish", BigInteger, nullable=False),
    **UPDATED,
)
