"""variants: how a model version is computed

Revision ID: 0005
Revises: 0004
"""

from alembic import op
import sqlalchemy as sa

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "model_versions", sa.Column("variant", sa.Text(), server_default="auto", nullable=False)
    )


def downgrade() -> None:
    op.drop_column("model_versions", "variant")
