"""The SQL of tenants: their weights and limits."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, text

from app.db.engine import connect

LIMITS = ("requests_per_minute", "key_requests_per_minute", "queued_jobs", "in_flight_jobs", "stored_bytes")
COLUMNS = ("weight", *LIMITS)

_SHOWN = f"id, name, {', '.join(COLUMNS)}, created_at"
_CREATE = text(f"INSERT INTO tenants (name) VALUES (:name) ON CONFLICT (name) DO NOTHING RETURNING {_SHOWN}")
_LIST = text(f"SELECT {_SHOWN} FROM tenants ORDER BY name")
_GET = text(f"SELECT {_SHOWN} FROM tenants WHERE name = :name")


def create(engine: Engine, name: str) -> dict[str, Any] | None:
    """A new tenant; None if there is one of this name."""
    with connect(engine) as connection:
        row = connection.execute(_CREATE, {"name": name}).mappings().one_or_none()
    return dict(row) if row else None


def list_all(engine: Engine) -> Sequence[dict[str, Any]]:
    """Every tenant, by name."""
    with connect(engine) as connection:
        return [dict(row) for row in connection.execute(_LIST).mappings()]


def get(engine: Engine, name: str) -> dict[str, Any] | None:
    """The tenant of this name."""
    with connect(engine) as connection:
        row = connection.execute(_GET, {"name": name}).mappings().one_or_none()
    return dict(row) if row else None


def change(engine: Engine, name: str, values: Mapping[str, int | None]) -> dict[str, Any] | None:
    """Set these of `COLUMNS`, at least one; a limit of None is the server's default. None: no such tenant."""
    assert values
    assert set(values) <= set(COLUMNS)
    members = ", ".join(f"{column} = :{column}" for column in values)
    statement = text(f"UPDATE tenants SET {members} WHERE name = :name RETURNING {_SHOWN}")
    with connect(engine) as connection:
        row = connection.execute(statement, {**values, "name": name}).mappings().one_or_none()
    return dict(row) if row else None
