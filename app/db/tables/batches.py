"""Bulk submissions, and what clerks know of them."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import JSON, JSONB, UUID

from app.db.tables.common import CHURN, UPDATED, metadata, moment

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
    moment("created_at", default=True),
    moment("expires_at"),
    moment("in_progress_at", null=True),
    moment("finalizing_at", null=True),
    moment("completed_at", null=True),
    moment("failed_at", null=True),
    moment("expired_at", null=True),
    moment("cancelling_at", null=True),
    moment("cancelled_at", null=True),
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
    **UPDATED,
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
    moment("at", default=True),
    Column("succeeded", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("canceled", Integer, nullable=False),
    Column("expired", Integer, nullable=False),
    Index("batch_tallies_batch_id_idx", "batch_id"),
    **CHURN,
)

# One row per batch that is not at its end: when a clerk should look at it, and which one does, by what epoch.
batch_work = Table(
    "batch_work",
    metadata,
    Column("batch_id", UUID, primary_key=True),
    moment("due_at", default=True),
    Column("worker_id", UUID),
    Column("epoch", BigInteger),
    Index("batch_work_due_at_idx", "due_at"),
    CheckConstraint("(worker_id IS NULL) = (epoch IS NULL)", name="lease"),
    **CHURN,
)
