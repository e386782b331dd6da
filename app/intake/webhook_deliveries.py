"""What webhook endpoints and per-job URLs were sent or are to be sent; and sending some of it again."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.broker.ring import Ringer
from app.db import delivery_log as sql
from app.db.engine import Engine
from app.domain.delivery import Event
from app.domain.ids import InvalidId, parse_id
from app.domain.stages import DeliveryBell
from app.errors import Conflict, FieldError, NotFound
from app.intake import bells, webhooks
from app.intake.authenticate import Principal
from app.intake.shapes import invalid
from app.intake.webhook_view import DELIVERY, endpoint


def parse_delivery_id(text: str) -> UUID:
    """The id in a URL. Raises `NotFound`: what is no id names no delivery."""
    try:
        return parse_id(DELIVERY, text)
    except InvalidId:
        raise not_found() from None


def not_found() -> NotFound:
    """The same for a delivery that never was and for one of somebody else."""
    return NotFound("delivery_not_found", "there is no such delivery")


def fetch(engine: Engine, principal: Principal, delivery_id: UUID) -> Any:
    """The delivery's row with its tries. Raises `NotFound`."""
    row = sql.get(engine, principal.tenant_id, delivery_id)
    if row is None:
        raise not_found()
    return row


def list_page(engine: Engine, where: sql.DeliveryFilter) -> Sequence[Any]:
    """Rows without tries, newest first; one more than the limit if there are more."""
    return sql.list_page(engine, where)


def send_test(engine: Engine, ringer: Ringer, principal: Principal, endpoint_id: UUID) -> Any:
    """Send the endpoint an `endpoint.test` event. Returns the delivery's row.

    Raises `NotFound`, or `Conflict` if the endpoint is disabled.
    """
    row = _enabled(engine, principal, endpoint_id)
    event = Event.ENDPOINT_TEST.value
    delivery_id = sql.send_test(engine, principal.tenant_id, endpoint_id, event, endpoint(row))
    if delivery_id is None:
        raise webhooks.not_found()
    bells.ring(ringer, DeliveryBell())
    return fetch(engine, principal, delivery_id)


def recover(
    engine: Engine,
    ringer: Ringer,
    principal: Principal,
    endpoint_id: UUID,
    since: datetime,
    now: datetime,
) -> int:
    """Queue again whatever failed for the endpoint since then, also while it was disabled. Returns how many.

    Raises `NotFound`, `Conflict` if the endpoint is disabled, or `Invalid` for a time to come.
    """
    if since > now:
        raise invalid([FieldError("/since", "out_of_range", "must not be in the future")])
    _enabled(engine, principal, endpoint_id)
    count = sql.recover(engine, principal.tenant_id, endpoint_id, since)
    if count:
        bells.ring(ringer, DeliveryBell())
    return count


def redeliver(engine: Engine, ringer: Ringer, principal: Principal, delivery_id: UUID) -> Any:
    """Send a delivery now, whatever became of it, with all its tries ahead. Returns its row.

    Raises `NotFound`; and `Conflict` while it is being sent, or if its endpoint is disabled or deleted.
    """
    row = fetch(engine, principal, delivery_id)
    if row.endpoint_gone:
        raise Conflict("endpoint_gone", "the delivery's webhook endpoint was deleted")
    if row.endpoint_status == "disabled":
        raise _disabled()
    if not sql.redeliver(engine, principal.tenant_id, delivery_id):
        raise Conflict("delivery_in_flight", "the delivery is being sent at this moment")
    bells.ring(ringer, DeliveryBell())
    return fetch(engine, principal, delivery_id)


def _enabled(engine: Engine, principal: Principal, endpoint_id: UUID) -> Any:
    row = webhooks.fetch(engine, principal, endpoint_id)
    if row.status == "disabled":
        raise _disabled()
    return row


def _disabled() -> Conflict:
    return Conflict("endpoint_disabled", "the webhook endpoint is disabled; enable it first")
