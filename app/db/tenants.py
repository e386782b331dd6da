"""The SQL of tenants: their weights and limits. What changes one is noted in the same transaction."""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Engine, TextClause, text

from app.db import audit
from app.db.engine import connect, transaction

LIMITS = ("requests_per_minute", "key_requests_per_minute", "queued_jobs", "in_flight_jobs", "stored_bytes")
COLUMNS = ("weight", *LIMITS)

_SHOWN = f"id, name, {', '.join(COLUMNS)}, disabled_at, created_at"
_CREATE = text(f"INSERT INTO tenants (name) VALUES (:name) ON CONFLICT (name) DO NOTHING RETURNING {_SHOWN}")
_LIST = text(f"SELECT {_SHOWN} FROM tenants ORDER BY name")
_PAGE = text(
    f"""
    SELECT {_SHOWN} FROM tenants
     WHERE CAST(:after AS text) IS NULL OR id < (SELECT id FROM tenants WHERE name = :after)
     ORDER BY id DESC LIMIT :limit
    """
)
_GET = text(f"SELECT {_SHOWN} FROM tenants WHERE name = :name")


def create(
    engine: Engine, name: str, values: Mapping[str, int | None] | None = None, *, actor: str
) -> dict[str, Any] | None:
    """A new tenant, with these of `COLUMNS`; None if there is one of this name."""
    with transaction(engine) as connection:
        row = connection.execute(_CREATE, {"name": name}).mappings().one_or_none()
        if row and values:
            row = connection.execute(_update(values), {**values, "name": name}).mappings().one()
        if row:
            audit.write(connection, actor, "tenants.create", name, **(values or {}))
    return dict(row) if row else None


def ensure(engine: Engine, name: str, *, actor: str) -> int:
    """The id of the tenant of this name, which is made if there is none."""
    row = get(engine, name) or create(engine, name, actor=actor) or get(engine, name)
    assert row is not None, "tenants are never removed"
    return int(row["id"])


def list_all(engine: Engine) -> Sequence[dict[str, Any]]:
    """Every tenant, by name."""
    with connect(engine) as connection:
        return [dict(row) for row in connection.execute(_LIST).mappings()]


def list_page(engine: Engine, limit: int, after: str | None) -> Sequence[dict[str, Any]]:
    """Tenants, newest first, made before the one named `after`; one more than `limit` if there are more."""
    with connect(engine) as connection:
        rows = connection.execute(_PAGE, {"after": after, "limit": limit + 1}).mappings().all()
    return [dict(row) for row in rows]


def get(engine: Engine, name: str) -> dict[str, Any] | None:
    """The tenant of this name."""
    with connect(engine) as connection:
        row = connection.execute(_GET, {"name": name}).mappings().one_or_none()
    return dict(row) if row else None


def change(
    engine: Engine, name: str, values: Mapping[str, int | bool | None], *, actor: str
) -> dict[str, Any] | None:
    """Set these of `COLUMNS`, or `disabled`; a limit of None is the default. None: no such tenant."""
    with transaction(engine) as connection:
        row = connection.execute(_update(values), {**values, "name": name}).mappings().one_or_none()
        if row:
            audit.write(connection, actor, "tenants.set", name, **values)
    return dict(row) if row else None


def _update(values: Mapping[str, Any]) -> TextClause:
    assert values
    assert set(values) <= {*COLUMNS, "disabled"}
    members = [f"{column} = :{column}" for column in values if column != "disabled"]
    if "disabled" in values:
        members.append("disabled_at = CASE WHEN :disabled THEN coalesce(disabled_at, now()) END")
    return text(f"UPDATE tenants SET {', '.join(members)} WHERE name = :name RETURNING {_SHOWN}")
