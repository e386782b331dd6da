"""tenants: weights, limits, whose each place is, when keys were used, who did what

Revision ID: 0008
Revises: 0007
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_LIMITS = (
    ("requests_per_minute", sa.Integer()),
    ("key_requests_per_minute", sa.Integer()),
    ("queued_jobs", sa.BigInteger()),
    ("in_flight_jobs", sa.BigInteger()),
    ("stored_bytes", sa.BigInteger()),
)
_PLACES = ("job_ready", "job_deferred", "job_leases")


def upgrade() -> None:
    op.add_column("tenants", sa.Column("weight", sa.SmallInteger(), server_default="1", nullable=False))
    for name, kind in _LIMITS:
        op.add_column("tenants", sa.Column(name, kind, nullable=True))
    op.create_check_constraint(op.f("tenants_weight_check"), "tenants", "weight BETWEEN 1 AND 1000")
    op.add_column("api_keys", sa.Column("requests_per_minute", sa.Integer(), nullable=True))
    op.add_column("api_keys", sa.Column("last_used_at", sa.TIMESTAMP(timezone=True), nullable=True))
    # Null for what was there before: such a job counts for no quota.
    for place in _PLACES:
        op.add_column(place, sa.Column("tenant_id", sa.Integer(), nullable=True))
    op.create_table(
        "audit_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", postgresql.JSONB(), server_default=sa.text("'{}'"), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("audit_log_pkey")),
    )


def downgrade() -> None:
    op.drop_table("audit_log")
    for place in _PLACES:
        op.drop_column(place, "tenant_id")
    op.drop_column("api_keys", "last_used_at")
    op.drop_column("api_keys", "requests_per_minute")
    op.drop_constraint(op.f("tenants_weight_check"), "tenants", type_="check")
    for name, _ in reversed(_LIMITS):
        op.drop_column("tenants", name)
    op.drop_column("tenants", "weight")
