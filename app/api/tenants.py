"""`/v1/tenants`, `/v1/keys` and `/v1/audit`: who shares the system. For operators, over all tenants."""

from datetime import UTC, datetime
from typing import Any

from flask import Blueprint, Response, request

from app.api import parameters as p
from app.api.answers import base_url, json_answer, list_answer
from app.api.body import read_json, read_optional_json
from app.api.operation import Answer, Operation, Parameter, route
from app.api.schemas import ApiKey, ApiKeyList, ApiKeyWithSecret, AuditList, Tenant, TenantList
from app.api.services import services
from app.db import audit
from app.db import keys as keys_sql
from app.db import tenants as sql
from app.domain.scopes import USUAL_SCOPES
from app.errors import Conflict, NotFound
from app.intake import tenant_request as shapes
from app.intake.authenticate import Principal
from app.intake.keys import issue_key, rotate_key
from app.intake.query import DEFAULT_LIMIT, BadCursor, Reader, limit, read_query, short

blueprint = Blueprint("tenants", __name__)

_TENANT = Parameter("tenant", "path", "The tenant's name.")
_KEY_ID = Parameter("key_id", "path", "The key's id: the middle part of `hr_<keyid>_<secret>`.")


def _list(after: str, *more: Parameter) -> tuple[Parameter, ...]:
    return (p.LIMIT, Parameter("after", "query", f"The last {after} of the page before."), *more)


def _name(text: str) -> str:
    return short(text, 256)


def _line_id(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 19):
        raise BadCursor("after must be the id of a line")
    return int(text)


def _page(readers: dict[str, Reader]) -> tuple[dict[str, Any], int]:
    chosen = read_query(request.args.items(multi=True), {"limit": limit, **readers}.get)
    return chosen, chosen.get("limit", DEFAULT_LIMIT)


def _actor(principal: Principal) -> str:
    return f"key:{principal.key_id}"


@route(
    blueprint,
    Operation(
        "createTenant",
        "POST",
        "/v1/tenants",
        "tenants",
        "Make a tenant",
        "It needs a key next. Safe to repeat: a second one of the same name is refused.",
        scope="admin",
        parameters=(p.CONTENT_ENCODING,),
        body=shapes.TenantRequest,
        answers={201: Answer("The tenant.", Tenant, headers=("Location",))},
        errors=(*p.BODY_ERRORS, "invalid_request", "tenant_exists"),
    ),
)
def create(principal: Principal) -> Response:
    """Make a tenant."""
    name, values = shapes.read_tenant(read_json())
    row = sql.create(services().engine, name, values, actor=_actor(principal))
    if row is None:
        raise Conflict("tenant_exists", "there is a tenant of this name already")
    return json_answer(shapes.show_tenant(row), 201, {"Location": f"{base_url()}/v1/tenants/{name}"})


@route(
    blueprint,
    Operation(
        "listTenants",
        "GET",
        "/v1/tenants",
        "tenants",
        "List tenants",
        "Newest first.",
        scope="admin",
        parameters=_list("tenant"),
        answers={200: Answer("A page.", TenantList)},
        errors=("invalid_request",),
    ),
)
def list_all(_principal: Principal) -> Response:
    """A page of tenants."""
    chosen, most = _page({"after": _name})
    rows = sql.list_page(services().engine, most, chosen.get("after"))
    return list_answer([shapes.show_tenant(row) for row in rows[:most]], has_more=len(rows) > most)


@route(
    blueprint,
    Operation(
        "getTenant",
        "GET",
        "/v1/tenants/<tenant>",
        "tenants",
        "Get a tenant",
        scope="admin",
        parameters=(_TENANT,),
        answers={200: Answer("The tenant.", Tenant)},
        errors=("tenant_not_found",),
    ),
)
def get(_principal: Principal, tenant: str) -> Response:
    """One tenant."""
    return json_answer(shapes.show_tenant(_found(tenant)))


@route(
    blueprint,
    Operation(
        "updateTenant",
        "PATCH",
        "/v1/tenants/<tenant>",
        "tenants",
        "Change a tenant",
        "Its weight, its limits, or whether it is disabled. Processes see it within seconds. The tenant of"
        " the key that asks can't be disabled: the key would lock itself out.",
        scope="admin",
        parameters=(_TENANT, p.CONTENT_ENCODING),
        body=shapes.TenantChange,
        answers={200: Answer("The tenant as it is now.", Tenant)},
        errors=(*p.BODY_ERRORS, "tenant_not_found", "own_tenant", "invalid_request"),
    ),
)
def update(principal: Principal, tenant: str) -> Response:
    """Change what is given."""
    _found(tenant)
    values = shapes.read_change(read_json())
    if values.get("disabled") and tenant == principal.tenant:
        raise Conflict(
            "own_tenant",
            f"the key that asks is of the tenant {tenant} itself, and would stop working: ask with a key of"
            f" another tenant, or run `headracectl tenants set {tenant} --disabled`",
        )
    row = sql.change(services().engine, tenant, values, actor=_actor(principal))
    if row is None:
        raise _no_tenant()
    return json_answer(shapes.show_tenant(row))


@route(
    blueprint,
    Operation(
        "createKey",
        "POST",
        "/v1/tenants/<tenant>/keys",
        "tenants",
        "Make a key",
        "`key` is shown this once: only its hash is stored. So nothing can be replayed; if the answer was"
        " lost, revoke the key that is in the list and make another.",
        scope="admin",
        parameters=(_TENANT, p.CONTENT_ENCODING),
        body=shapes.KeyRequest,
        answers={201: Answer("The key, with its secret.", ApiKeyWithSecret)},
        errors=(*p.BODY_ERRORS, "tenant_not_found", "invalid_request"),
    ),
)
def create_key(principal: Principal, tenant: str) -> Response:
    """Make a key of this tenant."""
    tenant_id = _found(tenant)["id"]
    asked = shapes.read_key(read_json(), datetime.now(UTC))
    key = issue_key(
        services().engine,
        services().settings.secret_key.get_secret_value(),
        tenant_id,
        name=asked.name or "",
        scopes=tuple(asked.scopes or USUAL_SCOPES),
        expires_at=asked.expires_at,
        requests_per_minute=asked.requests_per_minute,
        actor=_actor(principal),
    )
    return _made(key)


@route(
    blueprint,
    Operation(
        "listKeys",
        "GET",
        "/v1/tenants/<tenant>/keys",
        "tenants",
        "List a tenant's keys",
        "Newest first, without their secrets; those that are revoked or expired, too.",
        scope="admin",
        parameters=(_TENANT, *_list("key's id")),
        answers={200: Answer("A page.", ApiKeyList)},
        errors=("tenant_not_found", "invalid_request"),
    ),
)
def list_keys(_principal: Principal, tenant: str) -> Response:
    """A page of the tenant's keys."""
    tenant_id = _found(tenant)["id"]
    chosen, most = _page({"after": _name})
    rows = keys_sql.list_page(services().engine, tenant_id, most, chosen.get("after"))
    return list_answer([shapes.show_key(row) for row in rows[:most]], has_more=len(rows) > most)


@route(
    blueprint,
    Operation(
        "rotateKey",
        "POST",
        "/v1/keys/<key_id>/rotate",
        "tenants",
        "Put a new key in place of one",
        "The new one may do what the old one may, and lives as long as that was to live, unless `expires_at`"
        " is given. The old one works for the grace period, a day if nothing is said; it is rotated once, and"
        " again only with `expires_at`."
        " `key` is shown this once.",
        scope="admin",
        parameters=(_KEY_ID, p.CONTENT_ENCODING),
        body=shapes.KeyRotation,
        body_required=False,
        answers={201: Answer("The new key, with its secret.", ApiKeyWithSecret)},
        errors=(*p.BODY_ERRORS, "key_not_found", "key_rotated", "invalid_request"),
    ),
)
def rotate(principal: Principal, key_id: str) -> Response:
    """Make its successor."""
    _found_key(key_id)
    grace_s, expires_at = shapes.read_rotation(read_optional_json(), datetime.now(UTC))
    pepper = services().settings.secret_key.get_secret_value()
    return _made(rotate_key(services().engine, pepper, key_id, grace_s, expires_at, actor=_actor(principal)))


@route(
    blueprint,
    Operation(
        "revokeKey",
        "POST",
        "/v1/keys/<key_id>/revoke",
        "tenants",
        "Revoke a key",
        "For good. Every process of the API refuses it within `HEADRACE_API_CACHE_TTL_S`. Safe to repeat.",
        scope="admin",
        parameters=(_KEY_ID,),
        answers={200: Answer("The key.", ApiKey)},
        errors=("key_not_found",),
    ),
)
def revoke(principal: Principal, key_id: str) -> Response:
    """Revoke it now."""
    _found_key(key_id)
    keys_sql.revoke(services().engine, key_id, actor=_actor(principal))
    return json_answer(shapes.show_key(_found_key(key_id)))


@route(
    blueprint,
    Operation(
        "listAudit",
        "GET",
        "/v1/audit",
        "tenants",
        "List what operators did",
        "To tenants, keys, models and workers. Newest first.",
        scope="admin",
        parameters=_list("line's id", Parameter("action", "query", "Only actions that begin so, as `keys`.")),
        answers={200: Answer("A page.", AuditList)},
        errors=("invalid_request", "invalid_cursor"),
    ),
)
def list_audit(_principal: Principal) -> Response:
    """A page of the log."""
    chosen, most = _page({"after": _line_id, "action": _name})
    rows = audit.latest(services().engine, most + 1, chosen.get("action"), chosen.get("after"))
    return list_answer([shapes.show_line(row) for row in rows[:most]], has_more=len(rows) > most)


def _found(tenant: str) -> dict[str, Any]:
    row = None if "\0" in tenant else sql.get(services().engine, tenant)
    if row is None:
        raise _no_tenant()
    return row


def _no_tenant() -> NotFound:
    return NotFound("tenant_not_found", "there is no such tenant")


def _found_key(key_id: str) -> keys_sql.KeyRow:
    row = keys_sql.find(services().engine, key_id) if key_id.isalnum() else None
    if row is None:
        raise NotFound("key_not_found", "there is no such key")
    return row


def _made(key: str) -> Response:
    return json_answer({**shapes.show_key(_found_key(key.split("_")[1])), "key": key}, 201)
