"""files: what tenants keep in the storage, and the objects that no file needs

Revision ID: 0003
Revises: 0002
"""

from alembic import op
import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

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


def upgrade() -> None:
    op.create_table(
        "files",
        sa.Column("id", sa.UUID(), nullable=False),
        sa.Column("tenant_id", sa.Integer(), nullable=False),
        sa.Column("purpose", sa.Text(), nullable=False),
        sa.Column("filename", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("sha256", sa.LargeBinary(), nullable=False),
        _moment("created_at", default=True),
        _moment("expires_at", nullable=True),
        sa.Column("batch_id", sa.UUID(), nullable=True),
        sa.CheckConstraint("bytes >= 0", name=op.f("files_bytes_check")),
        sa.CheckConstraint("octet_length(sha256) = 32", name=op.f("files_sha256_check")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenants.id"], name=op.f("files_tenant_id_fkey")),
        sa.PrimaryKeyConstraint("id", name=op.f("files_pkey")),
    )
    op.create_index(
        "files_tenant_id_id_idx", "files", ["tenant_id", "id"], postgresql_include=["bytes", "expires_at"]
    )
    op.create_index(
        "files_expires_at_idx",
        "files",
        ["expires_at"],
        postgresql_where=sa.text("expires_at IS NOT NULL"),
    )
    op.create_table(
        "stray_objects",
        sa.Column("key", sa.Text(), nullable=False),
        _moment("due_at"),
        sa.PrimaryKeyConstraint("key", name=op.f("stray_objects_pkey")),
        postgresql_with=CHURN,
    )
    op.create_index("stray_objects_due_at_idx", "stray_objects", ["due_at"])


def downgrade() -> None:
    op.drop_table("stray_objects")
    op.drop_table("files")
