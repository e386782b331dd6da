"""batches: bulk submissions, what is wrong with them, what became of their jobs, and who works on them

Revision ID: 0004
Revises: 0003
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

CHURN = {
    "autovacuum_vacuum_scale_factor": "0.0",
    "autovacuum_vacuum_threshold": "2000",
    "autovacuum_vacuum_cost_delay": "0",
}
UPDATED = {
    "fillfactor": "50",
    "autovacuum_vacuum_scale_factor": "0.0",
    "autovacuum_vacuum_threshold": "500",
}


def _moment(name: str, nullable: bool = False, default: bool = False) -> sa.Column:
    return sa.Column(
        name,
        postgresql.TIMESTAMP(timezone=True),
        server_default=sa.text("now()") if default else None,
        nullable=nullable,
    )


def upgrade() -> None:
    op.add_column("jobs", sa.Column("encoding", sa.Text(), nullable=True))
    op.add_column("webhook_deliveries", sa.Column("batch_id", sa.UUID(), nullable=True))
    op.create_table(
        "batches",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("input_file_id", sa.UUID(), nullable=True),
        sa.Column("retry_of", sa.UUID(), nullable=True),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("on_invalid", sa.Text(), server_default="fail", nullable=False),
        sa.Column("dry_run", sa.Boolean(), server_default="false", nullable=False),
        sa.Column("webhook", sa.Text(), nullable=True),
        sa.Column("output_expires_after_s", sa.Integer(), nullable=True),
        sa.Column("metadata", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.Column("status", sa.Text(), server_default="validating", nullable=False),
        sa.Column("total", sa.Integer(), nullable=True),
        sa.Column("ingested", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_line", sa.Integer(), server_default="1", nullable=False),
        sa.Column("next_byte", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("invalid", sa.Integer(), server_default="0", nullable=False),
        sa.Column("estimate", postgresql.JSON(), nullable=True),
        sa.Column("versions", postgresql.JSON(), nullable=True),
        sa.Column("output_file_id", sa.UUID(), nullable=True),
        sa.Column("error_file_id", sa.UUID(), nullable=True),
        _moment("created_at", default=True),
        _moment("expires_at"),
        _moment("in_progress_at", nullable=True),
        _moment("finalizing_at", nullable=True),
        _moment("completed_at", nullable=True),
        _moment("failed_at", nullable=True),
        _moment("expired_at", nullable=True),
        _moment("cancelling_at", nullable=True),
        _moment("cancelled_at", nullable=True),
        sa.CheckConstraint(
            "endpoint IN ('/v1/jobs', '/v1/embeddings')", name=op.f("batches_endpoint_check")
        ),
        sa.CheckConstraint("on_invalid IN ('fail', 'skip')", name=op.f("batches_on_invalid_check")),
        sa.CheckConstraint(
            "status IN ('validating', 'in_progress', 'finalizing', 'completed', 'failed', 'expired',"
            " 'cancelling', 'cancelled')",
            name=op.f("batches_status_check"),
        ),
        sa.CheckConstraint(
            "(status = 'completed') = (completed_at IS NOT NULL)", name=op.f("batches_completed_check")
        ),
        sa.CheckConstraint("(status = 'failed') = (failed_at IS NOT NULL)", name=op.f("batches_failed_check")),
        sa.CheckConstraint(
            "(status = 'expired') = (expired_at IS NOT NULL)", name=op.f("batches_expired_check")
        ),
        sa.CheckConstraint(
            "(status = 'cancelled') = (cancelled_at IS NOT NULL)", name=op.f("batches_cancelled_check")
        ),
        sa.CheckConstraint("ingested <= coalesce(total, 0)", name=op.f("batches_ingested_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("batches_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("batches_pkey")),
        postgresql_with=UPDATED,
    )
    op.create_index("batches_tenant_id_id_idx", "batches", ["tenant_id", "id"])
    op.create_table(
        "batch_errors",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        sa.Column("line", sa.Integer(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("param", sa.Text(), nullable=True),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("after", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("batch_id", "line", name=op.f("batch_errors_pkey")),
    )
    op.create_table(
        "batch_tallies",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        _moment("at", default=True),
        sa.Column("succeeded", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("canceled", sa.Integer(), nullable=False),
        sa.Column("expired", sa.Integer(), nullable=False),
        postgresql_with=CHURN,
    )
    op.create_index("batch_tallies_batch_id_idx", "batch_tallies", ["batch_id"])
    op.create_table(
        "batch_work",
        sa.Column("batch_id", sa.UUID(), nullable=False),
        _moment("due_at", default=True),
        sa.Column("worker_id", sa.UUID(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("(worker_id IS NULL) = (epoch IS NULL)", name=op.f("batch_work_lease_check")),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("batch_work_pkey")),
        postgresql_with=CHURN,
    )
    op.create_index("batch_work_due_at_idx", "batch_work", ["due_at"])
    op.create_table(
        "fair_shares",
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("finish", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("tenant_id", "version_id", name=op.f("fair_shares_pkey")),
        postgresql_with=UPDATED,
    )


def downgrade() -> None:
    for table in ("fair_shares", "batch_work", "batch_tallies", "batch_errors", "batches"):
        op.drop_table(table)
    op.drop_column("webhook_deliveries", "batch_id")
    op.drop_column("jobs", "encoding")
