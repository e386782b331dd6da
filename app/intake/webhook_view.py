"""Webhook endpoints and deliveries as clients see them: in answers, and in events about an endpoint."""

from datetime import datetime
from typing import Any
from uuid import UUID

from app.domain.delivery import DeliveryStatus
from app.domain.ids import format_id
from app.intake.view import BATCH, JOB, moment

ENDPOINT = "whk"
DELIVERY = "dlv"


def endpoint(row: Any) -> dict[str, Any]:
    """The endpoint without its secret."""
    return {
        "id": format_id(ENDPOINT, row.id),
        "object": "webhook_endpoint",
        "url": row.url,
        "events": list(row.events),
        "description": row.description,
        "status": row.status,
        "disabled_reason": row.disabled_reason,
        "failing_since": moment(row.failing_since),
        "previous_secret_expires_at": moment(row.previous_secret_expires_at),
        "created_at": moment(row.created_at),
        "updated_at": moment(row.updated_at),
    }


def deleted_endpoint(endpoint_id: UUID) -> dict[str, Any]:
    """What is left of an endpoint that was removed."""
    return {"id": format_id(ENDPOINT, endpoint_id), "object": "webhook_endpoint", "deleted": True}


def default_secret(secret: str, previous_expires_at: datetime | None) -> dict[str, Any]:
    """The tenant's default secret."""
    return {
        "object": "webhook_secret",
        "secret": secret,
        "previous_secret_expires_at": moment(previous_expires_at),
    }


def recovery(endpoint_id: UUID, since: datetime, count: int) -> dict[str, Any]:
    """How many deliveries were queued again."""
    return {
        "object": "recovery",
        "endpoint_id": format_id(ENDPOINT, endpoint_id),
        "since": moment(since),
        "count": count,
    }


def delivery(row: Any) -> dict[str, Any]:
    """The delivery with every try of it."""
    return {**listed_delivery(row), "attempts": [_attempt(each) for each in row.attempts or ()]}


def listed_delivery(row: Any) -> dict[str, Any]:
    """The delivery as a list shows it: `attempts` is null, because a list does not read them."""
    pending = row.status == DeliveryStatus.PENDING
    return {
        "id": format_id(DELIVERY, row.id),
        "object": "webhook_delivery",
        "event": row.event,
        "endpoint_id": format_id(ENDPOINT, row.endpoint_id) if row.endpoint_id else None,
        "url": row.url,
        "job_id": format_id(JOB, row.job_id) if row.job_id else None,
        "batch_id": format_id(BATCH, row.batch_id) if row.batch_id else None,
        "status": row.status,
        "next_attempt_at": moment(row.due_at) if pending else None,
        "attempts": None,
        "error": row.error,
        "created_at": moment(row.created_at),
        "completed_at": moment(row.completed_at),
    }


def _attempt(attempt: dict[str, Any]) -> dict[str, Any]:
    latency_s = attempt["latency_s"]
    return {
        **attempt,
        "started_at": moment(datetime.fromisoformat(attempt["started_at"])),
        "latency_s": None if latency_s is None else round(latency_s, 6),
    }
