"""Every table. A job's state is the table its row is in (see `app/domain/states.py`).

No foreign keys among the hot tables: a move is one statement, and conservation is proven by
`app/db/conservation.py` rather than enforced on every row.
"""

from typing import Any

from sqlalchemy import (
    REAL,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy import Sequence as DbSequence
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB, TIMESTAMP, UUID

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

_NOW = text("now()")


def _moment(name: str, *, null: bool = False, default: bool = False) -> Column[Any]:
    return Column(name, TIMESTAMP(timezone=True), nullable=null, server_default=_NOW if default else None)


def _whose() -> Column[Any]:
    """The job's tenant, for row-level security. A trigger looks it up for whoever doesn't say."""
    return Column("tenant_id", Integer)


# Small tables that live by insert and delete: vacuum them by count, not by share, and at once.
_CHURN: dict[str, Any] = {
    "postgresql_with": {
        "autovacuum_vacuum_scale_factor": "0.0",
        "autovacuum_vacuum_threshold": "2000",
        "autovacuum_vacuum_cost_delay": "0",
    }
}
# Rows that are updated in place leave room on their page, so that no index is touched (HOT).
_UPDATED: dict[str, Any] = {
    "postgresql_with": {
        "fillfactor": "50",
        "autovacuum_vacuum_scale_factor": "0.0",
        "autovacuum_vacuum_threshold": "500",
    }
}

# Epochs come from one sequence, never from a counter on the job: a counter can return to an old value.
lease_epoch = DbSequence("lease_epoch", metadata=metadata, data_type=BigInteger, cache=1)

tenants = Table(
    "tenants",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    _moment("created_at", default=True),
    # What signs the calls to per-job URLs; made when it is first needed. Sealed (app/domain/sealing.py).
    Column("webhook_secret", Text),
    Column("previous_webhook_secret", Text),
    _moment("previous_webhook_secret_expires_at", null=True),
    # Its share of the workers against those of others, and its limits: null is the server's default, 0 none.
    Column("weight", SmallInteger, nullable=False, server_default="1"),
    Column("requests_per_minute", Integer),
    Column("key_requests_per_minute", Integer),
    Column("queued_jobs", BigInteger),
    Column("in_flight_jobs", BigInteger),
    Column("stored_bytes", BigInteger),
    # Since when none of its keys works.
    _moment("disabled_at", null=True),
    CheckConstraint("weight BETWEEN 1 AND 1000", name="weight"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Integer, ForeignKey("tenants.id"), nullable=False, index=True),
    Column("name", Text, nullable=False, server_default=""),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    _moment("created_at", default=True),
    _moment("expires_at", null=True),
    _moment("revoked_at", null=True),
    Column("requests_per_minute", Integer),
    # To the minute or so.
    _moment("last_used_at", null=True),
)

# What operators did to tenants, keys, models and workers. Only ever added to.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    _moment("at", default=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
)

model_versions = Table(
    "model_versions",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("source_sha256", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("max_batch_items", Integer, nullable=False),
    Column("max_batch_units", Integer),
    Column("execution_timeout_s", Double, nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("input_schema", JSON, nullable=False),
    Column("output_schema", JSON, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("variant", Text, nullable=False, server_default="auto"),
    _moment("created_at", default=True),
    UniqueConstraint("model", "version"),
    CheckConstraint("max_batch_items > 0", name="batch_items"),
    CheckConstraint("device IN ('cpu', 'gpu', 'remote')", name="device"),
)

# Which version a request without one gets. Its own table, so that a rollback is one row.
models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("current_version_id", Integer, ForeignKey("model_versions.id"), nullable=False),
    _moment("updated_at", default=True),
)

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
    _moment("expires_at"),
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
    _moment("created_at", default=True),
    _moment("erased_at", null=True),
    Index("jobs_tenant_id_id_idx", "tenant_id", "id"),
    CheckConstraint("erased_at IS NULL OR input IS NULL", name="erased"),
    postgresql_partition_by="RANGE (id)",
)


def _place() -> list[Column[Any]]:
    """What travels with a job from place to place: where it queues, in which order, what it went through."""
    return [
        Column("job_id", UUID, primary_key=True),
        Column("rank", BigInteger, nullable=False),
        _moment("expires_at"),
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
    **_CHURN,
)

job_deferred = Table(
    "job_deferred",
    metadata,
    *_place(),
    _moment("run_at"),
    Index("job_deferred_run_at_idx", "run_at"),
    **_CHURN,
)

job_leases = Table(
    "job_leases",
    metadata,
    *_place(),
    Column("epoch", BigInteger, nullable=False),
    Column("worker_id", UUID, nullable=False),
    _moment("claimed_at", default=True),
    Column("cancel_requested", Boolean, nullable=False, server_default="false"),
    Index("job_leases_worker_id_idx", "worker_id"),
    **_CHURN,
)

job_results = Table(
    "job_results",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("status", Text, nullable=False),
    Column("output", JSON),
    Column("error", JSON),
    Column("reason", Text),
    _moment("started_at", null=True),
    _moment("completed_at", default=True),
    Column("epoch", BigInteger),
    Column("device", Text),
    Column("batch_size", Integer),
    Column("units", Integer),
    Column("run_s", REAL),
    Column("device_s", REAL),
    _whose(),
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
    _moment("started_at"),
    _moment("ended_at", default=True),
    Column("run_s", REAL),
    Column("device_s", REAL, nullable=False, server_default="0"),
    Column("batch_size", Integer),
    Column("units", Integer),
    Column("outcome", Text, nullable=False),
    Column("error_code", Text),
    _whose(),
    CheckConstraint(
        "outcome IN ('succeeded', 'error', 'canceled', 'crashed', 'timeout', 'lost', 'released')",
        name="outcome",
    ),
    postgresql_partition_by="RANGE (job_id)",
)

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
    _moment("failing_since", null=True),
    Column("secret", Text, nullable=False),
    Column("previous_secret", Text),
    _moment("previous_secret_expires_at", null=True),
    _moment("created_at", default=True),
    _moment("updated_at", default=True),
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
    _moment("created_at", default=True),
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
    _moment("due_at"),
    Index("webhook_queue_claim_idx", "target", "due_at", "delivery_id"),
    Index("webhook_queue_due_at_idx", "due_at"),
    **_CHURN,
)

webhook_leases = Table(
    "webhook_leases",
    metadata,
    *_delivery_place(),
    Column("epoch", BigInteger, nullable=False),
    Column("worker_id", UUID, nullable=False),
    _moment("claimed_at"),
    Index("webhook_leases_worker_id_idx", "worker_id"),
    **_CHURN,
)

webhook_results = Table(
    "webhook_results",
    metadata,
    Column("delivery_id", UUID, primary_key=True),
    Column("status", Text, nullable=False),
    Column("error", Text),
    _moment("completed_at"),
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
    _moment("started_at"),
    Column("status_code", SmallInteger),
    Column("latency_s", REAL),
    Column("error", Text),
    postgresql_partition_by="RANGE (delivery_id)",
)

PARTITIONED = (jobs, job_results, job_attempts, webhook_deliveries, webhook_results, webhook_attempts)

job_progress = Table(
    "job_progress",
    metadata,
    Column("job_id", UUID, primary_key=True),
    Column("epoch", BigInteger, nullable=False),
    Column("fraction", REAL, nullable=False),
    Column("message", Text),
    _moment("updated_at", default=True),
    _whose(),
    CheckConstraint("fraction >= 0 AND fraction <= 1", name="fraction"),
    **_CHURN,
)

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
    _moment("drain_until", null=True),
    _moment("started_at", default=True),
    _moment("heartbeat_at", default=True),
    Column("batch", ARRAY(UUID), nullable=False, server_default="{}"),
    _moment("batch_deadline_at", null=True),
    Column("batch_version_id", Integer),
    Column("models", JSONB, nullable=False, server_default=text("'{}'")),
    # What an executor starts and stops as one (see `app/domain/pools.py`).
    Column("machine", Text, nullable=False, server_default=""),
    CheckConstraint("state IN ('ready', 'draining', 'stopped', 'dead')", name="state"),
    CheckConstraint("purchase IN ('on_demand', 'spot')", name="purchase"),
    CheckConstraint("(state = 'dead') = (cause IS NOT NULL)", name="cause"),
    **_UPDATED,
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
    _moment("measured_at", default=True),
    CheckConstraint("jobs > 0 AND units > 0 AND seconds > 0", name="measured"),
    **_UPDATED,
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
    _moment("decided_at", default=True),
    **_UPDATED,
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("tenant_id", Integer, primary_key=True),
    Column("endpoint", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("resource_id", UUID, nullable=False),
    _moment("created_at", default=True),
    Index("idempotency_keys_created_at_idx", "created_at"),
    **_CHURN,
)

# A row is a file that is whole in the storage. Its object's key follows from tenant and id.
files = Table(
    "files",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("tenant_id", Integer, ForeignKey("tenants.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    _moment("created_at", default=True),
    _moment("expires_at", null=True),
    Column("batch_id", UUID),
    Index("files_tenant_id_id_idx", "tenant_id", "id", postgresql_include=["bytes", "expires_at"]),
    Index("files_expires_at_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    CheckConstraint("bytes >= 0", name="bytes"),
    CheckConstraint("octet_length(sha256) = 32", name="sha256"),
)

# A bulk submission. Its jobs' ids are its own id plus their number (see `app/domain/ids.py`), so every range
# of a batch's rows is a range of a primary key. What became of its jobs is in `batch_tallies`.
batches = Table(
    "batches",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("tenant_id", Integer, ForeignKey("tenants.id"), nullable=False),
    Column("endpoint", Text, nullable=False),
    # Null until the clerk has gathered what a retry runs again.
    Column("input_file_id", UUID),
    Column("retry_of", UUID),
    Column("completion_window", Text, nullable=False),
    Column("on_invalid", Text, nullable=False, server_default="fail"),
    Column("dry_run", Boolean, nullable=False, server_default="false"),
    Column("webhook", Text),
    # How long its output files are kept once they are made. Null: until they are deleted.
    Column("output_expires_after_s", Integer),
    Column("metadata", JSONB, nullable=False, server_default=text("'{}'")),
    Column("status", Text, nullable=False, server_default="validating"),
    # How many jobs it has. Null until its file is validated.
    Column("total", Integer),
    # How far its file has become jobs: jobs made, and the line and the byte after the last one's.
    Column("ingested", Integer, nullable=False, server_default="0"),
    Column("next_line", Integer, nullable=False, server_default="1"),
    Column("next_byte", BigInteger, nullable=False, server_default="0"),
    # Wrong lines in all. Each is in `batch_errors` and in the error file.
    Column("invalid", Integer, nullable=False, server_default="0"),
    Column("estimate", JSON),
    # Model name → id of the version that lines without one mean, as it was when the file was validated.
    Column("versions", JSON),
    Column("output_file_id", UUID),
    Column("error_file_id", UUID),
    _moment("created_at", default=True),
    _moment("expires_at"),
    _moment("in_progress_at", null=True),
    _moment("finalizing_at", null=True),
    _moment("completed_at", null=True),
    _moment("failed_at", null=True),
    _moment("expired_at", null=True),
    _moment("cancelling_at", null=True),
    _moment("cancelled_at", null=True),
    Index("batches_tenant_id_id_idx", "tenant_id", "id"),
    CheckConstraint("endpoint IN ('/v1/jobs', '/v1/embeddings')", name="endpoint"),
    CheckConstraint("on_invalid IN ('fail', 'skip')", name="on_invalid"),
    CheckConstraint(
        "status IN ('validating', 'in_progress', 'finalizing', 'completed', 'failed', 'expired',"
        " 'cancelling', 'cancelled')",
        name="status",
    ),
    CheckConstraint("(status = 'completed') = (completed_at IS NOT NULL)", name="completed"),
    CheckConstraint("(status = 'failed') = (failed_at IS NOT NULL)", name="failed"),
    CheckConstraint("(status = 'expired') = (expired_at IS NOT NULL)", name="expired"),
    CheckConstraint("(status = 'cancelled') = (cancelled_at IS NOT NULL)", name="cancelled"),
    CheckConstraint("ingested <= coalesce(total, 0)", name="ingested"),
    **_UPDATED,
)

# What is wrong with a line of a batch's file. Line 0: with the file itself.
batch_errors = Table(
    "batch_errors",
    metadata,
    Column("batch_id", UUID, primary_key=True),
    Column("line", Integer, primary_key=True),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("param", Text),
    Column("custom_id", Text),
    # Number of the job before it: where it stands among the results, which are in the order of the file.
    Column("after", Integer, nullable=False, server_default="0"),
)

# How many of a batch's jobs ended how: insert-only, so that no two settles wait for each other. The sum is
# the count; the clerk adds old rows up into one.
batch_tallies = Table(
    "batch_tallies",
    metadata,
    Column("batch_id", UUID, nullable=False),
    _moment("at", default=True),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("canceled", Integer, nullable=False),
    Column("expired", Integer, nullable=False),
    Index("batch_tallies_batch_id_idx", "batch_id"),
    **_CHURN,
)

# One row per batch that is not at its end: when a clerk should look at it, and which one does, by what epoch.
batch_work = Table(
    "batch_work",
    metadata,
    Column("batch_id", UUID, primary_key=True),
    _moment("due_at", default=True),
    Column("worker_id", UUID),
    Column("epoch", BigInteger),
    Index("batch_work_due_at_idx", "due_at"),
    CheckConstraint("(worker_id IS NULL) = (epoch IS NULL)", name="lease"),
    **_CHURN,
)

# Up to which virtual time a tenant's jobs of the batch lane reach (see `app/db/ingest.py`).
fair_shares = Table(
    "fair_shares",
    metadata,
    Column("tenant_id", Integer, primary_key=True),
    Column("version_id", Integer, primary_key=True),
    Column("finish", BigInteger, nullable=False),
    **_UPDATED,
)

# Objects in the storage that no file needs: still being written, or to be deleted. Every object is here or
# among the files from before it exists until after it is gone, so none is ever lost sight of.
stray_objects = Table(
    "stray_objects",
    metadata,
    Column("key", Text, primary_key=True),
    # From when on it may be deleted, and nobody may finish writing it.
    _moment("due_at"),
    Index("stray_objects_due_at_idx", "due_at"),
    **_CHURN,
)
