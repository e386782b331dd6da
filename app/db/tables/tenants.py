"""Who may ask, and what operators did."""

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from app.db.tables.common import metadata, moment

tenants = Table(
    "tenants",
    metadata,
    Column("id", Integer, Identity(always=True), primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    moment("created_at", default=True),
    # What signs the calls to per-job URLs; made when it is first needed. Sealed (app/domain/sealing.py).
    Column("webhook_secret", Text),
    Column("previous_webhook_secret", Text),
    moment("previous_webhook_secret_expires_at", null=True),
    # Its share of the workers against those of others, and its limits: null is the server's default, 0 none.
    Column("weight", SmallInteger, nullable=False, server_default="1"),
    Column("requests_per_minute", Integer),
    Column("key_requests_per_minute", Integer),
    Column("queued_jobs", BigInteger),
    Column("in_flight_jobs", BigInteger),
    Column("stored_bytes", BigInteger),
    # Since when none of its keys works.
    moment("disabled_at", null=True),
    CheckConstraint("weight BETWEEN 1 AND 1000", name="weight"),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tenant_id", Integer, ForeignKey("tenants.id"), nullable=False, index=True),
    Column("name", Text, nullable=False, server_default=""),
    Column("secret_hash", LargeBinary, nullable=False),
    Column("scopes", ARRAY(Text), nullable=False),
    moment("created_at", default=True),
    moment("expires_at", null=True),
    moment("revoked_at", null=True),
    Column("requests_per_minute", Integer),
    # To the minute or so.
    moment("last_used_at", null=True),
)

# What operators did to tenants, keys, models and workers. Only ever added to.
audit_log = Table(
    "audit_log",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    moment("at", default=True),
    Column("actor", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("details", JSONB, nullable=False, server_default=text("'{}'")),
)
