"""unsuccessful results: an index of what did not succeed, by tenant, so that it is found among all that did

Revision ID: 0015
Revises: 0014
"""

from alembic import op
from sqlalchemy import text

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

INDEX = "job_results_unsuccessful_idx"
ON = "(tenant_id, job_id) WHERE status <> 'succeeded'"


def upgrade() -> None:
    """Partition by partition, beside those who write to it; interrupted, it is run again."""
    with op.get_context().autocommit_block():
        # It waits for transactions that are under way, and nobody waits for it.
        op.execute("SET lock_timeout = 0")
        op.execute("SET statement_timeout = 0")
        # A partition that is made from here on has it by itself.
        op.execute(f"CREATE INDEX IF NOT EXISTS {INDEX} ON ONLY job_results {ON}")
        for partition, made in _partitions():
            name = f"{partition}_tenant_id_job_id_idx"
            if not made:
                op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
                op.execute(f"CREATE INDEX CONCURRENTLY {name} ON {partition} {ON}")
                op.execute(f"ALTER INDEX {INDEX} ATTACH PARTITION {name}")
        op.execute("SET lock_timeout = '4s'")
        op.execute("SET statement_timeout = '60s'")


def downgrade() -> None:
    op.execute(f"DROP INDEX {INDEX}")


def _partitions() -> list[tuple[str, bool]]:
    """Each partition, and whether its part of the index is attached."""
    found = op.get_bind().execute(
        text(
            f"""
            SELECT p.inhrelid::regclass::text, EXISTS (
                SELECT FROM pg_inherits i JOIN pg_index x ON x.indexrelid = i.inhrelid
                 WHERE i.inhparent = '{INDEX}'::regclass AND x.indrelid = p.inhrelid)
              FROM pg_inherits p WHERE p.inhparent = 'job_results'::regclass
            """
        )
    )
    return [(name, made) for name, made in found]
