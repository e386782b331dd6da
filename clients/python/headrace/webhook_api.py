"""`client.webhooks`: the endpoints of a tenant, and what was delivered to them."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote

from headrace import pages
from headrace.arguments import given, listed
from headrace.clock import Deadline, rfc3339
from headrace.record import Record
from headrace.transport import Transport
from headrace.types import DeliveryStatus, EndpointStatus, WebhookEventType
from headrace.webhook_records import WebhookDelivery, WebhookEndpoint, WebhookSecret

_PATH = "/v1/webhooks"
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 1.0


class Webhooks:
    """Endpoints: register, change, rotate, test. `deliveries` is what they were sent."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self.deliveries = WebhookDeliveries(transport)

    def create(
        self, url: str, *, events: Sequence[WebhookEventType] | None = None, description: str | None = None
    ) -> WebhookEndpoint:
        """Register a URL, for `job.completed` unless `events` says otherwise.

        Its `secret` is shown this once: give it to the receiver, for `headrace.webhooks.verify`.
        Raises `ValidationError` if the server may not call the URL. Not retried after a broken
        connection, because there might be two of it then.

        >>> endpoint = client.webhooks.create("https://example.com/hook", events=["job.completed"])
        >>> endpoint.id[:4], endpoint.secret[:6]
        ('whk_', 'whsec_')
        """
        body = given(url=url, events=listed(events), description=description)
        return WebhookEndpoint(_post(self._transport, _PATH, body))

    def list(self, *, after: str | None = None, limit: int | None = None) -> Iterator[WebhookEndpoint]:
        """Endpoints, newest first, fetched page by page while you iterate.

        `limit` is the most you get in all; `after` is the id to go on after.
        """
        found = pages.items(self._transport, _PATH, given(after=after), limit)
        return (WebhookEndpoint(raw) for raw in found)

    def get(self, endpoint_id: str) -> WebhookEndpoint:
        """The endpoint with this id, without its secret. Raises `NotFoundError`."""
        return WebhookEndpoint(self._transport.request("GET", _endpoint(endpoint_id)).data)

    def update(
        self,
        endpoint_id: str,
        *,
        url: str | None = None,
        events: Sequence[WebhookEventType] | None = None,
        description: str | None = None,
        status: EndpointStatus | None = None,
    ) -> WebhookEndpoint:
        """Change what is given, and nothing else. `status="enabled"` gives a disabled one a new start;
        `recover` sends it what it missed."""
        body = given(url=url, events=listed(events), description=description, status=status)
        return WebhookEndpoint(self._transport.request("PATCH", _endpoint(endpoint_id), body=body).data)

    def delete(self, endpoint_id: str) -> None:
        """Remove it, for good. What was still to be delivered to it is canceled."""
        self._transport.request("DELETE", _endpoint(endpoint_id))

    def rotate_secret(self, endpoint_id: str, *, grace_period_seconds: int | None = None) -> WebhookEndpoint:
        """A new secret, shown this once. The old one signs too for a grace period (a day unless given).

        Not retried after a broken connection: a second rotation would end the old secret's grace.
        """
        body = given(grace_period_seconds=grace_period_seconds)
        return WebhookEndpoint(_post(self._transport, _endpoint(endpoint_id, "/rotate-secret"), body))

    def test(self, endpoint_id: str, *, wait: float | None = None) -> WebhookDelivery:
        """Send an `endpoint.test` event. With `wait`, return when its first try ended, but after so many
        seconds at the latest: look at `tried`, `status` and `attempts`.

        Raises `ConflictError` if the endpoint is disabled.
        """
        deadline = Deadline(self._transport.clock, wait or 0.0)
        delivery = WebhookDelivery(_post(self._transport, _endpoint(endpoint_id, "/test")))
        pause = _FIRST_PAUSE_S
        while not delivery.tried and deadline.left():
            self._transport.clock.sleep(min(pause, deadline.left()))
            delivery = self.deliveries.get(delivery.id)
            pause = min(2 * pause, _LONGEST_PAUSE_S)
        return delivery

    def recover(self, endpoint_id: str, since: datetime | str) -> int:
        """Queue again all that failed since then, also while the endpoint was disabled. How many they are.

        Raises `ConflictError` if the endpoint is disabled: enable it first.
        """
        body = {"since": rfc3339(since)}
        return int(_post(self._transport, _endpoint(endpoint_id, "/recover"), body)["count"])

    def default_secret(self) -> WebhookSecret:
        """What the webhooks of URLs that were given with a job are signed with."""
        return _secret(self._transport.request("GET", f"{_PATH}/default/secret").data)

    def rotate_default_secret(self, *, grace_period_seconds: int | None = None) -> WebhookSecret:
        """A new default secret. The old one signs too for a grace period (a day unless given)."""
        body = given(grace_period_seconds=grace_period_seconds)
        return _secret(_post(self._transport, f"{_PATH}/default/rotate-secret", body))


class WebhookDeliveries:
    """What was sent, or is to be sent: one delivery for each event and URL."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        status: DeliveryStatus | None = None,
        endpoint_id: str | None = None,
        job_id: str | None = None,
        event: str | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Iterator[WebhookDelivery]:
        """Deliveries that match every filter, newest first, fetched page by page while you iterate.

        `limit` is the most you get in all; `after` is the id to go on after.

        >>> [delivery.event for delivery in client.webhooks.deliveries.list(status="failed")]
        []
        """
        params = given(
            status=status,
            endpoint_id=endpoint_id,
            job_id=job_id,
            event=event,
            created_after=rfc3339(created_after),
            created_before=rfc3339(created_before),
            after=after,
        )
        found = pages.items(self._transport, f"{_PATH}/deliveries", params, limit)
        return (WebhookDelivery(raw) for raw in found)

    def get(self, delivery_id: str) -> WebhookDelivery:
        """The delivery with this id, with every try. Raises `NotFoundError`."""
        return WebhookDelivery(self._transport.request("GET", _delivery(delivery_id)).data)

    def redeliver(self, delivery_id: str) -> WebhookDelivery:
        """Send it now, whatever became of it, with the same `webhook-id` and all tries before it.

        Raises `ConflictError` while it is being sent, or if its endpoint is disabled or deleted.
        """
        return WebhookDelivery(_post(self._transport, _delivery(delivery_id, "/redeliver")))


def _post(transport: Transport, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
    # None of these takes an Idempotency-Key, and each does something again if it is sent again.
    made: dict[str, Any] = transport.request("POST", path, body=body, repeatable=False).data
    return made


def _endpoint(endpoint_id: str, action: str = "") -> str:
    # A stray word must not become another path: /deliveries and /default are siblings of the ids.
    if not endpoint_id.startswith("whk_"):
        raise ValueError(f"{endpoint_id!r} is not a webhook endpoint's id (whk_…)")
    return f"{_PATH}/{quote(endpoint_id, safe='')}{action}"


def _delivery(delivery_id: str, action: str = "") -> str:
    if not delivery_id.startswith("dlv_"):
        raise ValueError(f"{delivery_id!r} is not a delivery's id (dlv_…)")
    return f"{_PATH}/deliveries/{quote(delivery_id, safe='')}{action}"


def _secret(raw: dict[str, Any]) -> WebhookSecret:
    expires = Record(raw)._moment("previous_secret_expires_at")
    return WebhookSecret(str(raw["secret"]), expires)
