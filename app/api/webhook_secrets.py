"""`/v1/webhooks/…/rotate-secret` and `/v1/webhooks/default`: what webhooks are signed with."""

from flask import Blueprint, Response

from app.api import parameters as p
from app.api.answers import json_answer
from app.api.body import read_optional_json
from app.api.operation import Answer, Operation, route
from app.api.schemas import WebhookEndpointWithSecret, WebhookSecret
from app.api.services import services
from app.intake import webhook_view, webhooks
from app.intake.authenticate import Principal
from app.intake.webhook_request import Rotation, read_grace

blueprint = Blueprint("webhook_secrets", __name__)


@route(
    blueprint,
    Operation(
        "rotateWebhookSecret",
        "POST",
        "/v1/webhooks/<endpoint_id>/rotate-secret",
        "webhooks",
        "Give a webhook endpoint a new secret",
        "During the grace period both secrets sign, so that the receiver can change over at any moment of"
        " it. A second rotation ends the first one's grace period.",
        scope="webhooks:write",
        parameters=(p.ENDPOINT_ID, p.CONTENT_ENCODING),
        body=Rotation,
        body_required=False,
        answers={200: Answer("The endpoint, and its new secret.", WebhookEndpointWithSecret)},
        errors=(*p.BODY_ERRORS, "endpoint_not_found", "invalid_request"),
    ),
)
def rotate(principal: Principal, endpoint_id: str) -> Response:
    """A new secret for an endpoint."""
    parts = services()
    key = webhooks.parse_endpoint_id(endpoint_id)
    grace_s = read_grace(read_optional_json())
    row, secret = webhooks.rotate(parts.engine, parts.keyring, principal, key, grace_s)
    return json_answer({**webhook_view.endpoint(row), "secret": secret})


@route(
    blueprint,
    Operation(
        "getDefaultWebhookSecret",
        "GET",
        "/v1/webhooks/default/secret",
        "webhooks",
        "Get the default secret",
        "It signs the webhooks of URLs that were given with a job. Made when it is first needed.",
        scope="webhooks:write",
        answers={200: Answer("The secret.", WebhookSecret)},
    ),
)
def get_default(principal: Principal) -> Response:
    """The tenant's default secret."""
    parts = services()
    return _shown(webhooks.default_secret(parts.engine, parts.keyring, principal))


@route(
    blueprint,
    Operation(
        "rotateDefaultWebhookSecret",
        "POST",
        "/v1/webhooks/default/rotate-secret",
        "webhooks",
        "Make a new default secret",
        "During the grace period both secrets sign.",
        scope="webhooks:write",
        parameters=(p.CONTENT_ENCODING,),
        body=Rotation,
        body_required=False,
        answers={200: Answer("The new secret.", WebhookSecret)},
        errors=(*p.BODY_ERRORS, "invalid_request"),
    ),
)
def rotate_default(principal: Principal) -> Response:
    """A new default secret."""
    parts = services()
    grace_s = read_grace(read_optional_json())
    return _shown(webhooks.rotate_default(parts.engine, parts.keyring, principal, grace_s))


def _shown(default: webhooks.DefaultSecret) -> Response:
    return json_answer(webhook_view.default_secret(default.secret, default.previous_expires_at))
