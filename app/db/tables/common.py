"""How tables are named, and what several of them have."""

from typing import Any

from sqlalchemy import Column, Integer, MetaData, text
from sqlalchemy.dialects.postgresql import TIMESTAMP

metadata = MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

_NOW = text("now()")


def moment(name: str, *, null: bool = False, default: bool = False) -> Column[Any]:
    """A time, with its zone. `default`: that of the transaction that inserts the row."""
    return Column(name, TIMESTAMP(timezone=True), nullable=null, server_default=_NOW if default else None)


def whose() -> Column[Any]:
    """The job's tenant, for row-level security. A trigger looks it up for whoever doesn't say."""
    return Column("tenant_id", Integer)


# Small tables that live by insert and delete: vacuum them by count, not by share, and at once.
CHURN: dict[str, Any] = {
    "postgresql_with": {
        "autovacuum_vacuum_scale_factor": "0.0",
        "autovacuum_vacuum_threshold": "2000",
        "autovacuum_vacuum_cost_delay": "0",
    }
}
# Rows that are updated in place leave room on their page, so that no index is touched (HOT).
UPDATED: dict[str, Any] = {
    "postgresql_with": {
        "fillfactor": "50",
        "autovacuum_vacuum_scale_factor": "0.0",
        "autovacuum_vacuum_threshold": "500",
    }
}
