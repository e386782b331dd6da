"""The SQL of webhook endpoints and of the secrets that sign: an endpoint's own, and each tenant's default."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from sqlalchemy import Connection, Engine, text

from app.db.engine import connect, transaction
from app.db.outbox import NOW, tell_endpoints
from app.domain.delivery import Event

_COLUMNS = """id, tenant_id, url, events, description, status, disabled_reason, failing_since,
           secret, previous_secret, previous_secret_expires_at, created_at, updated_at"""

# A tenant's inserts are one at a time. A statement of its own, because one that waits for a lock goes on
# with the snapshot that it began with, and would not count what was inserted while it waited.
_ONE_AT_A_TIME = text("SELECT FROM tenants WHERE id = :tenant_id FOR NO KEY UPDATE")
_INSERT = text(
    f"""
    INSERT INTO webhook_endpoints (id, tenant_id, url, events, description, secret, created_at, updated_at)
    SELECT :id, :tenant_id, :url, :events, :description, :secret, {NOW}, {NOW}
     WHERE (SELECT count(*) FROM webhook_endpoints WHERE tenant_id = :tenant_id) < :most
    RETURNING {_COLUMNS}
    """
)
_BY_STATUS = text("SELECT status, count(*) AS endpoints FROM webhook_endpoints GROUP BY 1")
_GET = text(f"SELECT {_COLUMNS} FROM webhook_endpoints WHERE id = :id AND tenant_id = :tenant_id")
_LIST = text(
    f"""
    SELECT {_COLUMNS} FROM webhook_endpoints
     WHERE tenant_id = :tenant_id AND (CAST(:before_id AS uuid) IS NULL OR id < :before_id)
     ORDER BY id DESC LIMIT :limit
    """
)
# A parameter that is NULL leaves the column as it is.
_UPDATE = text(
    f"""
    UPDATE webhook_endpoints
       SET url = coalesce(CAST(:url AS text), url),
           events = coalesce(CAST(:events AS text[]), events),
           description = coalesce(CAST(:description AS text), description),
           status = coalesce(CAST(:status AS text), status),
           disabled_reason = CASE CAST(:status AS text)
                                  WHEN 'enabled' THEN NULL
                                  WHEN 'disabled' THEN coalesce(disabled_reason, 'by_request')
                                  ELSE disabled_reason END,
           failing_since = CASE WHEN CAST(:status AS text) = 'enabled' THEN NULL ELSE failing_since END,
           updated_at = {NOW}
     WHERE id = :id AND tenant_id = :tenant_id
    RETURNING {_COLUMNS}
    """
)
_DELETE = text("DELETE FROM webhook_endpoints WHERE id = :id AND tenant_id = :tenant_id RETURNING id")
_DISABLE = text(
    f"""
    UPDATE webhook_endpoints
       SET status = 'disabled', disabled_reason = :reason, updated_at = {NOW}
     WHERE id = :id AND status = 'enabled'
    RETURNING {_COLUMNS}
    """
)
_DRAIN = text(
    f"""
    WITH taken AS (
        DELETE FROM webhook_queue WHERE target = CAST(CAST(:id AS uuid) AS text) RETURNING delivery_id
    )
    INSERT INTO webhook_results (delivery_id, status, error, completed_at)
    SELECT delivery_id, :status, :error, {NOW} FROM taken
    """
)
_TELL_OTHERS = text(
    f"WITH {tell_endpoints('w.id <> :id AND :event = ANY (w.events)')} SELECT id FROM audience"
)
_ROTATE = text(
    f"""
    UPDATE webhook_endpoints
       SET previous_secret = CASE WHEN :grace_s > 0 THEN secret END,
           previous_secret_expires_at = CASE WHEN :grace_s > 0
                                             THEN {NOW} + make_interval(secs => :grace_s) END,
           secret = :secret, updated_at = {NOW}
     WHERE id = :id AND tenant_id = :tenant_id
    RETURNING {_COLUMNS}
    """
)
_DEFAULT = text(
    """
    UPDATE tenants SET webhook_secret = coalesce(webhook_secret, :fresh) WHERE id = :tenant_id
    RETURNING webhook_secret AS secret, previous_webhook_secret_expires_at AS previous_secret_expires_at
    """
)
_ROTATE_DEFAULT = text(
    f"""
    UPDATE tenants
       SET previous_webhook_secret = CASE WHEN :grace_s > 0 THEN webhook_secret END,
           previous_webhook_secret_expires_at = CASE
               WHEN :grace_s > 0 AND webhook_secret IS NOT NULL
               THEN {NOW} + make_interval(secs => :grace_s) END,
           webhook_secret = :secret
     WHERE id = :tenant_id
    RETURNING webhook_secret AS secret, previous_webhook_secret_expires_at AS previous_secret_expires_at
    """
)
_LIST_ALL = text(
    """
    SELECT w.id, t.name AS tenant, w.url, w.events, w.description, w.status, w.disabled_reason,
           w.failing_since, w.previous_secret_expires_at, w.created_at, w.updated_at
      FROM webhook_endpoints w JOIN tenants t ON t.id = w.tenant_id
     ORDER BY w.id DESC
    """
)
_SEALED_ENDPOINTS = text("SELECT id, secret, previous_secret FROM webhook_endpoints FOR UPDATE")
_SEALED_TENANTS = text("SELECT id, webhook_secret, previous_webhook_secret FROM tenants FOR UPDATE")
_RESEAL_ENDPOINT = text(
    "UPDATE webhook_endpoints SET secret = :secret, previous_secret = :previous WHERE id = :id"
)
_RESEAL_TENANT = text(
    "UPDATE tenants SET webhook_secret = :secret, previous_webhook_secret = :previous WHERE id = :id"
)


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An endpoint to insert; `secret` is sealed."""

    id: UUID
    tenant_id: int
    url: str
    events: Sequence[str]
    description: str
    secret: str


def endpoint_owner(endpoint_id: UUID) -> str:
    """For whom an endpoint's secret is sealed."""
    return f"endpoint:{endpoint_id}"


def tenant_owner(tenant_id: int) -> str:
    """For whom a tenant's default secret is sealed."""
    return f"tenant:{tenant_id}"


def insert(engine: Engine, new: NewEndpoint, most: int, now: datetime | None = None) -> Any | None:
    """The row, or None if the tenant has `most` endpoints already."""
    parameters = {
        "id": new.id,
        "tenant_id": new.tenant_id,
        "url": new.url,
        "events": list(new.events),
        "description": new.description,
        "secret": new.secret,
        "most": most,
        "now": now,
    }
    with transaction(engine) as connection:
        connection.execute(_ONE_AT_A_TIME, {"tenant_id": new.tenant_id})
        return connection.execute(_INSERT, parameters).one_or_none()


def get(engine: Engine, tenant_id: int, endpoint_id: UUID) -> Any | None:
    """The endpoint's row, or None if this tenant has no such endpoint."""
    with connect(engine) as connection:
        return connection.execute(_GET, {"id": endpoint_id, "tenant_id": tenant_id}).one_or_none()


def list_page(engine: Engine, tenant_id: int, limit: int, before_id: UUID | None) -> Sequence[Any]:
    """The tenant's endpoints, newest first; one more than `limit` if there are more."""
    parameters = {"tenant_id": tenant_id, "limit": limit + 1, "before_id": before_id}
    with connect(engine) as connection:
        return connection.execute(_LIST, parameters).all()


def list_all(engine: Engine) -> Sequence[Any]:
    """Every tenant's endpoints, newest first, without their secrets. For operators."""
    with connect(engine) as connection:
        return connection.execute(_LIST_ALL).all()


def update(
    engine: Engine,
    tenant_id: int,
    endpoint_id: UUID,
    *,
    url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
    status: str | None = None,
    now: datetime | None = None,
) -> Any | None:
    """Change what is not None. Returns the row, or None if this tenant has no such endpoint.

    Disabling fails what was waiting for it; `recover` brings it back.
    """
    parameters = {
        "id": endpoint_id,
        "tenant_id": tenant_id,
        "url": url,
        "events": list(events) if events is not None else None,
        "description": description,
        "status": status,
        "now": now,
    }
    with transaction(engine) as connection:
        row = connection.execute(_UPDATE, parameters).one_or_none()
        if row is not None and status == "disabled":
            _drain(connection, endpoint_id, "failed", "endpoint_disabled", now)
    return row


def delete(engine: Engine, tenant_id: int, endpoint_id: UUID, now: datetime | None = None) -> bool:
    """Delete the endpoint and cancel what was waiting for it. False if this tenant has no such endpoint."""
    with transaction(engine) as connection:
        found = connection.execute(_DELETE, {"id": endpoint_id, "tenant_id": tenant_id}).one_or_none()
        if found is not None:
            _drain(connection, endpoint_id, "canceled", None, now)
    return found is not None


def disable(
    engine: Engine,
    endpoint_id: UUID,
    reason: str,
    payload: Callable[[Any], dict[str, Any]],
    now: datetime | None = None,
) -> bool:
    """Disable an endpoint that is enabled, fail what waits for it, and tell the tenant's other endpoints.

    `payload` makes the event's data from the row. False, and nothing done, if it was not enabled any more.
    """
    with transaction(engine) as connection:
        row = connection.execute(_DISABLE, {"id": endpoint_id, "reason": reason, "now": now}).one_or_none()
        if row is None:
            return False
        _drain(connection, endpoint_id, "failed", "endpoint_disabled", now)
        told = {
            "id": endpoint_id,
            "tenant_id": row.tenant_id,
            "event": Event.ENDPOINT_DISABLED.value,
            "payload": orjson.dumps(payload(row)).decode(),
            "now": now,
        }
        connection.execute(_TELL_OTHERS, told)
    return True


def rotate(
    engine: Engine,
    tenant_id: int,
    endpoint_id: UUID,
    secret: str,
    grace_s: float,
    now: datetime | None = None,
) -> Any | None:
    """Put a new sealed secret in place; the old one signs too for `grace_s` seconds. Returns the row."""
    parameters = {
        "id": endpoint_id,
        "tenant_id": tenant_id,
        "secret": secret,
        "grace_s": grace_s,
        "now": now,
    }
    with connect(engine) as connection:
        return connection.execute(_ROTATE, parameters).one_or_none()


def default_secret(engine: Engine, tenant_id: int, fresh: str) -> Any:
    """The tenant's default secret, sealed; `fresh` becomes it if there was none."""
    with connect(engine) as connection:
        return connection.execute(_DEFAULT, {"tenant_id": tenant_id, "fresh": fresh}).one()


def rotate_default(
    engine: Engine, tenant_id: int, secret: str, grace_s: float, now: datetime | None = None
) -> Any:
    """As `rotate`, for the tenant's default secret."""
    parameters = {"tenant_id": tenant_id, "secret": secret, "grace_s": grace_s, "now": now}
    with connect(engine) as connection:
        return connection.execute(_ROTATE_DEFAULT, parameters).one()


def reseal(engine: Engine, again: Callable[[str, str], str]) -> int:
    """Replace every sealed secret by `again(sealed, owner)`, in one transaction. Returns how many."""
    changed = 0
    with transaction(engine) as connection:
        for rows, owner, statement in (
            (connection.execute(_SEALED_ENDPOINTS).all(), endpoint_owner, _RESEAL_ENDPOINT),
            (connection.execute(_SEALED_TENANTS).all(), tenant_owner, _RESEAL_TENANT),
        ):
            for id, secret, previous in rows:
                sealed = [again(text, owner(id)) if text else None for text in (secret, previous)]
                if sealed != [secret, previous]:
                    connection.execute(statement, {"id": id, "secret": sealed[0], "previous": sealed[1]})
                    changed += 1
    return changed


def by_status(engine: Engine) -> dict[str, int]:
    """How many endpoints of all tenants are in each status."""
    with connect(engine) as connection:
        return {row.status: row.endpoints for row in connection.execute(_BY_STATUS)}


def _drain(
    connection: Connection, endpoint_id: UUID, status: str, error: str | None, now: datetime | None
) -> None:
    connection.execute(_DRAIN, {"id": endpoint_id, "status": status, "error": error, "now": now})
