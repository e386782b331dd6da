"""The query string of `GET /v1/webhooks/deliveries` to a `DeliveryFilter`."""

from collections.abc import Iterable

from app.db.delivery_log import DeliveryFilter
from app.domain.delivery import DeliveryStatus, Event
from app.intake.query import DEFAULT_LIMIT, Reader, cursor, id_of, limit, moment, one_of, read_query
from app.intake.view import JOB
from app.intake.webhook_view import DELIVERY, ENDPOINT


def read_filter(tenant_id: int, query: Iterable[tuple[str, str]]) -> DeliveryFilter:
    """The filter that a query means. Raises `Invalid` naming every wrong parameter under /query."""
    chosen = read_query(query, _PARAMETERS.get)
    return DeliveryFilter(
        tenant_id=tenant_id,
        limit=chosen.get("limit", DEFAULT_LIMIT),
        before_id=chosen.get("after"),
        status=chosen.get("status"),
        endpoint_id=chosen.get("endpoint_id"),
        job_id=chosen.get("job_id"),
        event=chosen.get("event"),
        created_after=chosen.get("created_after"),
        created_before=chosen.get("created_before"),
    )


_PARAMETERS: dict[str, Reader] = {
    "limit": limit,
    "after": cursor(DELIVERY, "a delivery"),
    "status": one_of(DeliveryStatus),
    "endpoint_id": id_of(ENDPOINT),
    "job_id": id_of(JOB),
    "event": one_of(Event),
    "created_after": moment,
    "created_before": moment,
}
