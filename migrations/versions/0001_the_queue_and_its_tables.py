"""the queue and its tables

Revision ID: 0001
Revises:
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("CREATE SEQUENCE lease_epoch AS bigint")
    op.create_table(
        "idempotency_keys",
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("resource_id", sa.UUID(), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("tenant_id", "endpoint", "key", name=op.f("idempotency_keys_pkey")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("idempotency_keys_created_at_idx", "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "job_attempts",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=True),
        sa.Column("purchase", sa.Text(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column(
            "ended_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("run_s", sa.REAL(), nullable=True),
        sa.Column("device_s", sa.REAL(), server_default="0", nullable=False),
        sa.Column("batch_size", sa.Integer(), nullable=True),
        sa.Column("units", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "outcome IN ('succeeded', 'error', 'canceled', 'crashed', 'timeout', 'lost', 'released')",
            name=op.f("job_attempts_outcome_check"),
        ),
        sa.PrimaryKeyConstraint("job_id", "epoch", name=op.f("job_attempts_pkey")),
        postgresql_partition_by="RANGE (job_id)",
    )
    op.create_table(
        "job_deferred",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("crashes", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("batch_cap", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("run_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("job_deferred_pkey")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("job_deferred_run_at_idx", "job_deferred", ["run_at"], unique=False)
    op.create_table(
        "job_leases",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("crashes", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("batch_cap", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("worker_id", sa.UUID(), nullable=False),
        sa.Column(
            "claimed_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("cancel_requested", sa.Boolean(), server_default="false", nullable=False),
        sa.PrimaryKeyConstraint("job_id", name=op.f("job_leases_pkey")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index("job_leases_worker_id_idx", "job_leases", ["worker_id"], unique=False)
    op.create_table(
        "job_progress",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("fraction", sa.REAL(), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column(
            "updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("fraction >= 0 AND fraction <= 1", name=op.f("job_progress_fraction_check")),
        sa.PrimaryKeyConstraint("job_id", name=op.f("job_progress_pkey")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_table(
        "job_ready",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("rank", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("attempt", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("crashes", sa.SmallInteger(), server_default="0", nullable=False),
        sa.Column("batch_cap", sa.SmallInteger(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("job_id", name=op.f("job_ready_pkey")),
        postgresql_with={
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "2000",
            "autovacuum_vacuum_cost_delay": "0",
        },
    )
    op.create_index(
        "job_ready_claim_idx", "job_ready", ["version_id", "lane", "priority", "rank", "job_id"], unique=False
    )
    op.create_table(
        "job_results",
        sa.Column("job_id", sa.UUID(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("output", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("error", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column(
            "completed_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("epoch", sa.BigInteger(), nullable=True),
        sa.Column("device", sa.Text(), nullable=True),
        sa.Column("batch_size", sa.Integer(), nullable=True),
        sa.Column("units", sa.Integer(), nullable=True),
        sa.Column("run_s", sa.REAL(), nullable=True),
        sa.Column("device_s", sa.REAL(), nullable=True),
        sa.CheckConstraint("(status = 'failed') = (error IS NOT NULL)", name=op.f("job_results_error_check")),
        sa.CheckConstraint("status = 'succeeded' OR output IS NULL", name=op.f("job_results_output_check")),
        sa.CheckConstraint(
            "status IN ('succeeded', 'failed', 'canceled', 'expired')", name=op.f("job_results_status_check")
        ),
        sa.PrimaryKeyConstraint("job_id", name=op.f("job_results_pkey")),
        postgresql_partition_by="RANGE (job_id)",
    )
    op.create_table(
        "jobs",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("lane", sa.SmallInteger(), nullable=False),
        sa.Column("priority", sa.SmallInteger(), nullable=False),
        sa.Column("input", postgresql.JSON(astext_type=sa.Text()), nullable=True),
        sa.Column("input_hash", sa.LargeBinary(), nullable=False),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=False),
        sa.Column("execution_timeout_s", sa.Double(), nullable=False),
        sa.Column("max_attempts", sa.SmallInteger(), nullable=False),
        sa.Column("initial_delay_ms", sa.Integer(), nullable=False),
        sa.Column("max_delay_ms", sa.Integer(), nullable=False),
        sa.Column("webhook", sa.Text(), nullable=True),
        sa.Column("webhook_events", postgresql.ARRAY(sa.Text()), nullable=True),
        sa.Column("use_case", sa.Text(), nullable=True),
        sa.Column(
            "metadata",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("batch_id", sa.UUID(), nullable=True),
        sa.Column("custom_id", sa.Text(), nullable=True),
        sa.Column("retry_of", sa.UUID(), nullable=True),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("erased_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.CheckConstraint("erased_at IS NULL OR input IS NULL", name=op.f("jobs_erased_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("jobs_pkey")),
        postgresql_partition_by="RANGE (id)",
    )
    op.create_index("jobs_tenant_id_id_idx", "jobs", ["tenant_id", "id"], unique=False)
    op.create_table(
        "model_versions",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("source_sha256", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("max_batch_items", sa.Integer(), nullable=False),
        sa.Column("max_batch_units", sa.Integer(), nullable=True),
        sa.Column("execution_timeout_s", sa.Double(), nullable=False),
        sa.Column("memory_mb", sa.Integer(), nullable=False),
        sa.Column("input_schema", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("output_schema", postgresql.JSON(astext_type=sa.Text()), nullable=False),
        sa.Column("description", sa.Text(), server_default="", nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint("device IN ('cpu', 'gpu', 'remote')", name=op.f("model_versions_device_check")),
        sa.CheckConstraint("max_batch_items > 0", name=op.f("model_versions_batch_items_check")),
        sa.PrimaryKeyConstraint("id", name=op.f("model_versions_pkey")),
        sa.UniqueConstraint("model", "version", name=op.f("model_versions_model_version_key")),
    )
    op.create_table(
        "tenants",
        sa.Column("id", sa.Integer(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("tenants_pkey")),
        sa.UniqueConstraint("name", name=op.f("tenants_name_key")),
    )
    op.create_table(
        "workers",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("purchase", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("queues", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("cause", sa.Text(), nullable=True),
        sa.Column(
            "started_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column(
            "heartbeat_at",
            postgresql.TIMESTAMP(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("batch", postgresql.ARRAY(sa.UUID()), server_default="{}", nullable=False),
        sa.Column("batch_deadline_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("batch_version_id", sa.Integer(), nullable=True),
        sa.Column(
            "models", postgresql.JSONB(astext_type=sa.Text()), server_default=sa.text("'{}'"), nullable=False
        ),
        sa.CheckConstraint("(state = 'dead') = (cause IS NOT NULL)", name=op.f("workers_cause_check")),
        sa.CheckConstraint("purchase IN ('on_demand', 'spot')", name=op.f("workers_purchase_check")),
        sa.CheckConstraint(
            "state IN ('ready', 'draining', 'stopped', 'dead')", name=op.f("workers_state_check")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("workers_pkey")),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "500",
        },
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), server_default="", nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column(
            "created_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.Column("expires_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.Column("revoked_at", postgresql.TIMESTAMP(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("api_keys_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("api_keys_pkey")),
    )
    op.create_index(op.f("api_keys_tenant_id_idx"), "api_keys", ["tenant_id"], unique=False)
    op.create_table(
        "models",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("current_version_id", sa.Integer(), nullable=False),
        sa.Column(
            "updated_at", postgresql.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.ForeignKeyConstraint(
            ["current_version_id"], ["model_versions.id"], name=op.f("models_current_version_id_fkey")
        ),
        sa.PrimaryKeyConstraint("name", name=op.f("models_pkey")),
    )
    for table in ("jobs", "job_results", "job_attempts"):
        # Rows of a day without a partition of its own land here; maintenance makes the days ahead.
        op.execute(f"CREATE TABLE {table}_pdefault PARTITION OF {table} DEFAULT")


def downgrade() -> None:
    op.drop_table("models")
    op.drop_index(op.f("api_keys_tenant_id_idx"), table_name="api_keys")
    op.drop_table("api_keys")
    op.drop_table("workers")
    op.drop_table("tenants")
    op.drop_table("model_versions")
    op.drop_index("jobs_tenant_id_id_idx", table_name="jobs")
    op.drop_table("jobs")
    op.drop_table("job_results")
    op.drop_index("job_ready_claim_idx", table_name="job_ready")
    op.drop_table("job_ready")
    op.drop_table("job_progress")
    op.drop_index("job_leases_worker_id_idx", table_name="job_leases")
    op.drop_table("job_leases")
    op.drop_index("job_deferred_run_at_idx", table_name="job_deferred")
    op.drop_table("job_deferred")
    op.drop_table("job_attempts")
    op.drop_index("idempotency_keys_created_at_idx", table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.execute("DROP SEQUENCE lease_epoch")
