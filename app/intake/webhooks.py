"""Webhook endpoints, and the secrets that sign what they are sent.

A secret leaves this module twice: for its owner, when it was just made or is asked for by name, and sealed,
for the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db import endpoints as sql
from app.db.engine import Engine
from app.domain.ids import InvalidId, new_uuid, parse_id
from app.domain.sealing import Keyring
from app.domain.signature import new_secret
from app.errors import Conflict, NotFound
from app.intake.authenticate import Principal
from app.intake.webhook_request import DEFAULT_EVENTS, EndpointChange, EndpointRequest
from app.intake.webhook_view import ENDPOINT

MOST_ENDPOINTS = 100
"""How many a tenant may have."""


@dataclass(frozen=True, slots=True)
class DefaultSecret:
    """What signs the webhooks of a tenant's per-job URLs."""

    secret: str = field(repr=False)
    previous_expires_at: datetime | None


def parse_endpoint_id(text: str) -> UUID:
    """The id in a URL. Raises `NotFound`: what is no id names no endpoint."""
    try:
        return parse_id(ENDPOINT, text)
    except InvalidId:
        raise not_found() from None


def not_found() -> NotFound:
    """The same for an endpoint that never was and for one of somebody else."""
    return NotFound("endpoint_not_found", "there is no such webhook endpoint")


def create(engine: Engine, keyring: Keyring, principal: Principal, asked: EndpointRequest) -> tuple[Any, str]:
    """Register an endpoint. Returns its row and its secret. Raises `Conflict` if the tenant has too many."""
    endpoint_id, secret = new_uuid(), new_secret()
    new = sql.NewEndpoint(
        id=endpoint_id,
        tenant_id=principal.tenant_id,
        url=asked.url,
        events=DEFAULT_EVENTS if asked.events is None else asked.events,
        description=asked.description or "",
        secret=keyring.seal(secret, sql.endpoint_owner(endpoint_id)),
    )
    row = sql.insert(engine, new, MOST_ENDPOINTS)
    if row is None:
        raise Conflict(
            "too_many_endpoints", f"there are {MOST_ENDPOINTS} webhook endpoints already; delete one first"
        )
    return row, secret


def list_page(engine: Engine, principal: Principal, limit: int, after: UUID | None) -> Sequence[Any]:
    """Rows of the tenant's endpoints, newest first; one more than `limit` if there are more."""
    return sql.list_page(engine, principal.tenant_id, limit, after)


def fetch(engine: Engine, principal: Principal, endpoint_id: UUID) -> Any:
    """The endpoint's row. Raises `NotFound`."""
    return _found(sql.get(engine, principal.tenant_id, endpoint_id))


def update(engine: Engine, principal: Principal, endpoint_id: UUID, change: EndpointChange) -> Any:
    """Change what `change` has. Returns the row. Raises `NotFound`."""
    wanted = change.model_dump()
    return _found(sql.update(engine, principal.tenant_id, endpoint_id, **wanted))


def delete(engine: Engine, principal: Principal, endpoint_id: UUID) -> None:
    """Remove the endpoint; what still waits to be sent to it is canceled. Raises `NotFound`."""
    if not sql.delete(engine, principal.tenant_id, endpoint_id):
        raise not_found()


def rotate(
    engine: Engine, keyring: Keyring, principal: Principal, endpoint_id: UUID, grace_s: int
) -> tuple[Any, str]:
    """Give the endpoint a new secret; the old one signs too for `grace_s` seconds.

    Returns its row and the new secret. Raises `NotFound`.
    """
    secret = new_secret()
    sealed = keyring.seal(secret, sql.endpoint_owner(endpoint_id))
    return _found(sql.rotate(engine, principal.tenant_id, endpoint_id, sealed, grace_s)), secret


def default_secret(engine: Engine, keyring: Keyring, principal: Principal) -> DefaultSecret:
    """The tenant's default secret, made now if there was none."""
    owner = sql.tenant_owner(principal.tenant_id)
    row = sql.default_secret(engine, principal.tenant_id, keyring.seal(new_secret(), owner))
    return DefaultSecret(keyring.open(row.secret, owner), row.previous_secret_expires_at)


def rotate_default(engine: Engine, keyring: Keyring, principal: Principal, grace_s: int) -> DefaultSecret:
    """As `rotate`, for the tenant's default secret."""
    secret = new_secret()
    sealed = keyring.seal(secret, sql.tenant_owner(principal.tenant_id))
    row = sql.rotate_default(engine, principal.tenant_id, sealed, grace_s)
    return DefaultSecret(secret, row.previous_secret_expires_at)


def _found(row: Any | None) -> Any:
    if row is None:
        raise not_found()
    return row
