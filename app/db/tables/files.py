"""What is whole in the storage, and what is no file there."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import UUID

from app.db.tables.common import CHURN, metadata, moment

# A row is a file that is whole in the storage. Its object's key follows from tenant and id.
files = Table(
    "files",
    metadata,
    Column("id", UUID, primary_key=True),
    Column("tenant_id", Integer, ForeignKey("tenants.id"), nullable=False),
    Column("purpose", Text, nullable=False),
    Column("filename", Text, nullable=False),
    Column("bytes", BigInteger, nullable=False),
    Column("sha256", LargeBinary, nullable=False),
    moment("created_at", default=True),
    moment("expires_at", null=True),
    Column("batch_id", UUID),
    Index("files_tenant_id_id_idx", "tenant_id", "id", postgresql_include=["bytes", "expires_at"]),
    Index("files_expires_at_idx", "expires_at", postgresql_where=text("expires_at IS NOT NULL")),
    CheckConstraint("bytes >= 0", name="bytes"),
    CheckConstraint("octet_length(sha256) = 32", name="sha256"),
)

# Objects in the storage that no file needs: still being written, or to be deleted. Every object is here or
# among the files from before it exists until after it is gone, so none is ever lost sight of.
stray_objects = Table(
    "stray_objects",
    metadata,
    Column("key", Text, primary_key=True),
    # From when on it may be deleted, and nobody may finish writing it.
    moment("due_at"),
    Index("stray_objects_due_at_idx", "due_at"),
    **CHURN,
)
