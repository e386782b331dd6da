"""whose results: rows about a job name its tenant, so that none has to be looked up

Revision ID: 0012
Revises: 0011
"""

from alembic import op
import sqlalchemy as sa

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

TABLES = ("job_results", "job_attempts", "job_progress")


def upgrade() -> None:
    for table in TABLES:
        op.add_column(table, sa.Column("tenant_id", sa.Integer(), nullable=True))
    # For code of the release before, which doesn't name it, and for places that are older than their column.
    op.execute(
        """
        CREATE FUNCTION tenant_of_job() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            SELECT tenant_id INTO NEW.tenant_id FROM jobs WHERE id = NEW.job_id;
            RETURN NEW;
        END $$
        """
    )
    for table in TABLES:
        op.execute(
            f"CREATE TRIGGER tenant BEFORE INSERT ON {table} FOR EACH ROW"
            " WHEN (NEW.tenant_id IS NULL) EXECUTE FUNCTION tenant_of_job()"
        )


def downgrade() -> None:
    for table in TABLES:
        op.execute(f"DROP TRIGGER tenant ON {table}")
        op.drop_column(table, "tenant_id")
    op.execute("DROP FUNCTION tenant_of_job")
