"""pools and speeds: what scaling decides from, and what it decided

Revision ID: 0007
Revises: 0006
"""

from alembic import op
import sqlalchemy as sa

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# What an autoscaler outside may ask: the machines that were decided on, and those that drain and still hold
# leases. It fails rather than answer what nobody stands for any more, so that the autoscaler changes nothing.
DESIRED = """
CREATE FUNCTION headrace_desired(pool text) RETURNS integer LANGUAGE plpgsql STABLE AS $$
DECLARE
    answer integer;
BEGIN
    SELECT s.desired + s.draining INTO answer FROM pool_states s
     WHERE s.pool = headrace_desired.pool AND s.decided_at > now() - interval '60 seconds';
    IF answer IS NULL THEN
        RAISE EXCEPTION 'no scaler has decided on the pool % in the last minute', pool;
    END IF;
    RETURN answer;
END
$$
"""


def upgrade() -> None:
    op.add_column("workers", sa.Column("machine", sa.Text(), server_default="", nullable=False))
    op.create_table(
        "version_speeds",
        sa.Column("version_id", sa.Integer(), nullable=False),
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("jobs", sa.Double(), nullable=False),
        sa.Column("units", sa.Double(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column(
            "measured_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.CheckConstraint(
            "jobs > 0 AND units > 0 AND seconds > 0", name=op.f("version_speeds_measured_check")
        ),
        sa.PrimaryKeyConstraint("version_id", "pool", name=op.f("version_speeds_pkey")),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "500",
        },
    )
    op.create_table(
        "pool_states",
        sa.Column("pool", sa.Text(), nullable=False),
        sa.Column("desired", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("starting", sa.Integer(), nullable=False),
        sa.Column("draining", sa.Integer(), nullable=False),
        sa.Column("backlog_s", sa.Double(), nullable=False),
        sa.Column(
            "decided_at", sa.TIMESTAMP(timezone=True), server_default=sa.text("now()"), nullable=False
        ),
        sa.PrimaryKeyConstraint("pool", name=op.f("pool_states_pkey")),
        postgresql_with={
            "fillfactor": "50",
            "autovacuum_vacuum_scale_factor": "0.0",
            "autovacuum_vacuum_threshold": "500",
        },
    )
    op.execute(DESIRED)


def downgrade() -> None:
    op.execute("DROP FUNCTION headrace_desired")
    op.drop_table("pool_states")
    op.drop_table("version_speeds")
    op.drop_column("workers", "machine")
