"""webhooks: endpoints, and the outbox with its places

Revision ID: 0002
Revises: 0001
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

PARTITIONED = ("webhook_deliveries", "webhook_results", "webhook_attempts")
CHURN = {
    "autovacuum_vacuum_scale_factor": "0.0",
    "autovacuum_vacuum_threshold": "2000",
    "autovacuum_vacuum_cost_delay": "0",
}


def _moment(name: str, nullable: bool = False, default: bool = False) -> sa.Column:
    return sa.Column(
        name,
        postgresql.TIMESTAMP(timezone=True),
        server_default=sa.text("now()") if default else None,
        nullable=nullable,
    )


def _place() -> list[sa.Column]:
    return [
        sa.Column("delivery_id", sa.UUID(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=True),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
    ]


def upgrade() -> None:
    op.add_column("tenants", sa.Column("webhook_secret", sa.Text(), nullable=True))
    op.add_column("tenants", sa.Column("previous_webhook_secret", sa.Text(), nullable=True))
    op.add_column("tenants", _moment("previous_webhook_secret_expires_at", nullable=True))
    op.create_table(
        "webhook_endpoints",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("events", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column("status", sa.Text(), server_default="enabled", nullable=False),
        sa.Column("disabled_reason", sa.Text(), nullable=True),
        _moment("failing_since", nullable=True),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("previous_secret", sa.Text(), nullable=True),
        _moment("previous_secret_expires_at", nullable=True),
        _moment("created_at", default=True),
        _moment("updated_at", default=True),
        sa.CheckConstraint(
            "status IN ('enabled', 'disabled')", name=op.f("webhook_endpoints_status_check")
        ),
        sa.CheckConstraint(
            "(status = 'disabled') = (disabled_reason IS NOT NULL)",
            name=op.f("webhook_endpoints_disabled_reason_check"),
        ),
        sa.ForeignKeyConstraint(
            ["tenant_id"], ["tenants.id"], name=op.f("webhook_endpoints_tenant_id_fkey")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_endpoints_pkey")),
    )
    op.create_index("webhook_endpoints_tenant_id_id_idx", "webhook_endpoints", ["tenant_id", "id"])
    op.create_table(
        "webhook_deliveries",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("endpoint_id", sa.UUID(), nullable=True),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.Column("job_id", sa.UUID(), nullable=True),
        sa.Column("payload", postgresql.JSON(), nullable=True),
        _moment("created_at", default=True),
        sa.PrimaryKeyConstraint("id", name=op.f("webhook_deliveries_pkey")),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("webhook_deliveries_tenant_id_id_idx", "webhook_deliveries", ["tenant_id", "id"])
    op.create_index("webhook_deliveries_job_id_idx", "webhook_deliveries", ["job_id"])
    op.create_table(
        "webhook_queue",
        *_place(),
        _moment("due_at"),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("webhook_queue_pkey")),
        postgresql_with=CHURN,
    )
    op.create_index("webhook_queue_claim_idx", "webhook_queue", ["target", "due_at", "delivery_id"])
    op.create_index("webhook_queue_due_at_idx", "webhook_queue", ["due_at"])
    op.create_table(
        "webhook_leases",
        *_place(),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=False),
        _moment("claimed_at"),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("webhook_leases_pkey")),
        postgresql_with=CHURN,
    )
    op.create_index("webhook_leases_worker_id_idx", "webhook_leases", ["worker_id"])
    op.create_table(
        "webhook_results",
        sa.Column("delivery_id", sa.UUID(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("error", sa.Text(), nullable=True),
        _moment("completed_at"),
        sa.CheckConstraint(
            "status IN ('delivered', 'failed', 'canceled')", name=op.f("webhook_results_status_check")
        ),
        sa.CheckConstraint(
            "(status = 'failed') = (error IS NOT NULL)", name=op.f("webhook_results_error_check")
        ),
        sa.PrimaryKeyConstraint("delivery_id", name=op.f("webhook_results_pkey")),
        postgresql_partition_by="RANGE (delivery_id)",
    )
    op.create_table(
        "webhook_attempts",
        sa.Column("delivery_id", sa.UUID(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        _moment("started_at"),
        sa.Column("status_code", sa.SmallInteger(), nullable=True),
        sa.Column("latency_s", sa.REAL(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("delivery_id", "epoch", name=op.f("webhook_attempts_pkey")),
        postgresql_partition_by="RANGE (delivery_id)",
    )
    for table in PARTITIONED:
        op.execute(f"CREATE TABLE {table}_pdefault PARTITION OF {table} DEFAULT")


def downgrade() -> None:
    for table in (*PARTITIONED, "webhook_leases", "webhook_queue", "webhook_endpoints"):
        op.drop_table(table)
    op.drop_column("tenants", "previous_webhook_secret_expires_at")
    op.drop_column("tenants", "previous_webhook_secret")
    op.drop_column("tenants", "webhook_secret")
