"""The registered versions of models, and which one is current."""

from sqlalchemy import (
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Identity,
    Integer,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.dialects.postgresql import JSON

from app.db.tables.common import metadata, moment

model_versions = Table(
    "model_versions",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("model", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("source_sha256", Text, nullable=False),
    Column("device", Text, nullable=False),
    Column("unit", Text, nullable=False),
    Column("max_batch_items", Integer, nullable=False),
    Column("max_batch_units", Integer),
    Column("execution_timeout_s", Double, nullable=False),
    Column("memory_mb", Integer, nullable=False),
    Column("input_schema", JSON, nullable=False),
    Column("output_schema", JSON, nullable=False),
    Column("description", Text, nullable=False, server_default=""),
    Column("variant", Text, nullable=False, server_default="auto"),
    moment("created_at", default=True),
    UniqueConstraint("model", "version"),
    CheckConstraint("max_batch_items > 0", name="batch_items"),
    CheckConstraint("device IN ('cpu', 'gpu', 'remote')", name="device"),
)

# Which version a request without one gets. Its own table, so that a rollback is one row.
models = Table(
    "models",
    metadata,
    Column("name", Text, primary_key=True),
    Column("current_version_id", Integer, ForeignKey("model_versions.id"), nullable=False),
    moment("updated_at", default=True),
)
