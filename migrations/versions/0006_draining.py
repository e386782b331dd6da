"""draining: why a worker leaves, and by when

Revision ID: 0006
Revises: 0005
"""

from alembic import op
import sqlalchemy as sa

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("workers", sa.Column("drain_cause", sa.Text(), nullable=True))
    op.add_column("workers", sa.Column("drain_until", sa.TIMESTAMP(timezone=True), nullable=True))


def downgrade() -> None:
    op.drop_column("workers", "drain_until")
    op.drop_column("workers", "drain_cause")
