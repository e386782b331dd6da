"""`/v1/webhooks`: URLs that are called for the events they subscribe to."""

from flask import Blueprint, Response, request

from app.api import parameters as p
from app.api.answers import base_url, json_answer, list_answer
from app.api.body import read_json
from app.api.operation import Answer, Operation, route
from app.api.schemas import (
    WebhookEndpoint,
    WebhookEndpointDeleted,
    WebhookEndpointList,
    WebhookEndpointWithSecret,
)
from app.api.services import services
from app.intake import webhook_view, webhooks
from app.intake.authenticate import Principal
from app.intake.query import DEFAULT_LIMIT, cursor, limit, read_query
from app.intake.webhook_request import EndpointChange, EndpointRequest, read_change, read_endpoint

_PAGE = {"limit": limit, "after": cursor(webhook_view.ENDPOINT, "a webhook endpoint")}

blueprint = Blueprint("webhooks", __name__)


@route(
    blueprint,
    Operation(
        "createWebhook",
        "POST",
        "/v1/webhooks",
        "webhooks",
        "Register a webhook endpoint",
        "From now on it is called for the tenant's events it subscribes to. `secret` is what its webhooks"
        " are signed with (Standard Webhooks); it is shown this once.",
        scope="webhooks:write",
        parameters=(p.CONTENT_ENCODING,),
        body=EndpointRequest,
        answers={
            201: Answer("The endpoint, and its secret.", WebhookEndpointWithSecret, headers=("Location",))
        },
        errors=(*p.BODY_ERRORS, "invalid_request", "too_many_endpoints"),
    ),
)
def create(principal: Principal) -> Response:
    """Make an endpoint."""
    parts = services()
    asked = read_endpoint(read_json(), parts.egress)
    row, secret = webhooks.create(parts.engine, parts.keyring, principal, asked)
    shown = webhook_view.endpoint(row)
    location = f"{base_url()}/v1/webhooks/{shown['id']}"
    return json_answer({**shown, "secret": secret}, 201, {"Location": location})


@route(
    blueprint,
    Operation(
        "listWebhooks",
        "GET",
        "/v1/webhooks",
        "webhooks",
        "List webhook endpoints",
        "Newest first, without their secrets.",
        scope="webhooks:read",
        parameters=p.LIST_ENDPOINTS,
        answers={200: Answer("A page.", WebhookEndpointList)},
        errors=("invalid_request", "invalid_cursor"),
    ),
)
def list_all(principal: Principal) -> Response:
    """A page of the tenant's endpoints."""
    chosen = read_query(request.args.items(multi=True), _PAGE.get)
    most = chosen.get("limit", DEFAULT_LIMIT)
    rows = webhooks.list_page(services().engine, principal, most, chosen.get("after"))
    return list_answer([webhook_view.endpoint(row) for row in rows[:most]], has_more=len(rows) > most)


@route(
    blueprint,
    Operation(
        "getWebhook",
        "GET",
        "/v1/webhooks/<endpoint_id>",
        "webhooks",
        "Get a webhook endpoint",
        scope="webhooks:read",
        parameters=(p.ENDPOINT_ID,),
        answers={200: Answer("The endpoint, without its secret.", WebhookEndpoint)},
        errors=("endpoint_not_found",),
    ),
)
def get(principal: Principal, endpoint_id: str) -> Response:
    """One endpoint."""
    row = webhooks.fetch(services().engine, principal, webhooks.parse_endpoint_id(endpoint_id))
    return json_answer(webhook_view.endpoint(row))


@route(
    blueprint,
    Operation(
        "updateWebhook",
        "PATCH",
        "/v1/webhooks/<endpoint_id>",
        "webhooks",
        "Change a webhook endpoint",
        "Disabled, it is sent nothing: what waits for it, and what happens meanwhile, fails with"
        " `endpoint_disabled`, and can be recovered once it is enabled.",
        scope="webhooks:write",
        parameters=(p.ENDPOINT_ID, p.CONTENT_ENCODING),
        body=EndpointChange,
        answers={200: Answer("The endpoint as it is now.", WebhookEndpoint)},
        errors=(*p.BODY_ERRORS, "endpoint_not_found", "invalid_request"),
    ),
)
def update(principal: Principal, endpoint_id: str) -> Response:
    """Change what is given."""
    parts = services()
    key = webhooks.parse_endpoint_id(endpoint_id)
    change = read_change(read_json(), parts.egress)
    return json_answer(webhook_view.endpoint(webhooks.update(parts.engine, principal, key, change)))


@route(
    blueprint,
    Operation(
        "deleteWebhook",
        "DELETE",
        "/v1/webhooks/<endpoint_id>",
        "webhooks",
        "Remove a webhook endpoint",
        "For good. What still waits to be sent to it is canceled.",
        scope="webhooks:write",
        parameters=(p.ENDPOINT_ID,),
        answers={200: Answer("It is gone.", WebhookEndpointDeleted)},
        errors=("endpoint_not_found",),
    ),
)
def delete(principal: Principal, endpoint_id: str) -> Response:
    """Remove it."""
    key = webhooks.parse_endpoint_id(endpoint_id)
    webhooks.delete(services().engine, principal, key)
    return json_answer(webhook_view.deleted_endpoint(key))
