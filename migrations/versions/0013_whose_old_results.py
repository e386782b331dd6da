"""whose old results: those that are there already get their tenant. It locks rows and no table

Revision ID: 0013
Revises: 0012
"""

from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

TABLES = ("job_results", "job_attempts", "job_progress")


def upgrade() -> None:
    # As long as it takes: every row that was kept is written once more.
    op.execute("SET LOCAL statement_timeout = 0")
    for table in TABLES:
        op.execute(
            f"UPDATE {table} r SET tenant_id = j.tenant_id FROM jobs j"
            " WHERE j.id = r.job_id AND r.tenant_id IS NULL"
        )


def downgrade() -> None:
    pass
