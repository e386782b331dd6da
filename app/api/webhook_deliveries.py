"""`/v1/webhooks/deliveries`: what was sent or is to be sent; and `/test`, `/recover`, `/redeliver`."""

from datetime import UTC, datetime

from flask import Blueprint, Response, request

from app.api import parameters as p
from app.api.answers import json_answer, list_answer
from app.api.body import read_json, read_optional_json
from app.api.operation import Answer, Operation, route
from app.api.schemas import WebhookDelivery, WebhookDeliveryList, WebhookRecovery
from app.api.services import services
from app.intake import webhook_deliveries as deliveries
from app.intake import webhook_view
from app.intake.authenticate import Principal
from app.intake.delivery_listing import read_filter
from app.intake.shapes import read_as
from app.intake.webhook_request import Nothing, RecoveryRequest
from app.intake.webhooks import parse_endpoint_id

blueprint = Blueprint("webhook_deliveries", __name__)


@route(
    blueprint,
    Operation(
        "listWebhookDeliveries",
        "GET",
        "/v1/webhooks/deliveries",
        "webhooks",
        "List deliveries",
        "Newest first. Filters narrow together; go on with `after=<last_id>` while `has_more`.",
        scope="webhooks:read",
        parameters=p.LIST_DELIVERIES,
        answers={200: Answer("A page.", WebhookDeliveryList)},
        errors=("invalid_request", "invalid_cursor"),
    ),
)
def list_all(principal: Principal) -> Response:
    """A page of the tenant's deliveries."""
    where = read_filter(principal.tenant_id, request.args.items(multi=True))
    rows = deliveries.list_page(services().engine, where)
    shown = [webhook_view.listed_delivery(row) for row in rows[: where.limit]]
    return list_answer(shown, has_more=len(rows) > where.limit)


@route(
    blueprint,
    Operation(
        "getWebhookDelivery",
        "GET",
        "/v1/webhooks/deliveries/<delivery_id>",
        "webhooks",
        "Get a delivery",
        "With every try of it.",
        scope="webhooks:read",
        parameters=(p.DELIVERY_ID,),
        answers={200: Answer("The delivery.", WebhookDelivery)},
        errors=("delivery_not_found",),
    ),
)
def get(principal: Principal, delivery_id: str) -> Response:
    """One delivery."""
    row = deliveries.fetch(services().engine, principal, deliveries.parse_delivery_id(delivery_id))
    return json_answer(webhook_view.delivery(row))


@route(
    blueprint,
    Operation(
        "redeliverWebhook",
        "POST",
        "/v1/webhooks/deliveries/<delivery_id>/redeliver",
        "webhooks",
        "Send a delivery again",
        "At once, whatever became of it, with the same `webhook-id` and all tries ahead. One that waits for"
        " its next try is tried now.",
        scope="webhooks:write",
        parameters=(p.DELIVERY_ID, p.CONTENT_ENCODING),
        body=Nothing,
        body_required=False,
        answers={202: Answer("The delivery, queued.", WebhookDelivery)},
        errors=(
            *p.BODY_ERRORS,
            "delivery_not_found",
            "delivery_in_flight",
            "endpoint_disabled",
            "endpoint_gone",
            "invalid_request",
        ),
    ),
)
def redeliver(principal: Principal, delivery_id: str) -> Response:
    """Send it again."""
    parts = services()
    key = deliveries.parse_delivery_id(delivery_id)
    read_as(Nothing, read_optional_json())
    row = deliveries.redeliver(parts.engine, parts.ringer, principal, key)
    return json_answer(webhook_view.delivery(row), 202)


@route(
    blueprint,
    Operation(
        "testWebhook",
        "POST",
        "/v1/webhooks/<endpoint_id>/test",
        "webhooks",
        "Send a test event",
        "An `endpoint.test` event, signed, tried and recorded as any other; its `data` is the endpoint.",
        scope="webhooks:write",
        parameters=(p.ENDPOINT_ID, p.CONTENT_ENCODING),
        body=Nothing,
        body_required=False,
        answers={202: Answer("The delivery, queued.", WebhookDelivery)},
        errors=(*p.BODY_ERRORS, "endpoint_not_found", "endpoint_disabled", "invalid_request"),
    ),
)
def send_test(principal: Principal, endpoint_id: str) -> Response:
    """Send a test event."""
    parts = services()
    key = parse_endpoint_id(endpoint_id)
    read_as(Nothing, read_optional_json())
    row = deliveries.send_test(parts.engine, parts.ringer, principal, key)
    return json_answer(webhook_view.delivery(row), 202)


@route(
    blueprint,
    Operation(
        "recoverWebhook",
        "POST",
        "/v1/webhooks/<endpoint_id>/recover",
        "webhooks",
        "Send again what failed",
        "Every delivery of this endpoint that was created since then and failed, also while it was disabled,"
        " is queued again with all tries ahead.",
        scope="webhooks:write",
        parameters=(p.ENDPOINT_ID, p.CONTENT_ENCODING),
        body=RecoveryRequest,
        answers={202: Answer("How many were queued.", WebhookRecovery)},
        errors=(*p.BODY_ERRORS, "endpoint_not_found", "endpoint_disabled", "invalid_request"),
    ),
)
def recover(principal: Principal, endpoint_id: str) -> Response:
    """Queue again what failed."""
    parts = services()
    key = parse_endpoint_id(endpoint_id)
    since = read_as(RecoveryRequest, read_json()).since
    count = deliveries.recover(parts.engine, parts.ringer, principal, key, since, datetime.now(UTC))
    return json_answer(webhook_view.recovery(key, since, count), 202)
