"""What is kept on the server about webhooks: endpoints, their deliveries, the default secret."""

from dataclasses import dataclass, field
from datetime import datetime

from headrace.record import Record
from headrace.types import DeliveryAttempt, DeliveryStatus, EndpointStatus


class WebhookEndpoint(Record):
    """A URL that is called for the events it subscribes to."""

    @property
    def url(self) -> str:
        """Where it is."""
        return str(self._raw.get("url", ""))

    @property
    def events(self) -> list[str]:
        """What it is called for, such as `job.completed`."""
        return self._raw.get("events") or []

    @property
    def description(self) -> str:
        """What its owner wrote about it."""
        return self._raw.get("description") or ""

    @property
    def status(self) -> EndpointStatus:
        """`enabled`, or `disabled`: then it is not called."""
        status: EndpointStatus = self._raw["status"]
        return status

    @property
    def disabled_reason(self) -> str | None:
        """`gone` (it answered 410), `failing` (for days, without a success) or `by_request`."""
        return self._raw.get("disabled_reason")

    @property
    def failing_since(self) -> datetime | None:
        """Since when nothing it was sent succeeded; None if the last delivery did."""
        return self._moment("failing_since")

    @property
    def secret(self) -> str | None:
        """What its webhooks are signed with (`whsec_…`). Only there when it was just made."""
        return self._raw.get("secret")

    @property
    def previous_secret_expires_at(self) -> datetime | None:
        """Until when the secret before this one signs, too."""
        return self._moment("previous_secret_expires_at")

    @property
    def created_at(self) -> datetime | None:
        """When it was registered."""
        return self._moment("created_at")

    @property
    def updated_at(self) -> datetime | None:
        """When it was last changed."""
        return self._moment("updated_at")


class WebhookDelivery(Record):
    """One event for one URL. Its `id` is the `webhook-id` that the receiver sees, over all tries."""

    @property
    def event(self) -> str:
        """What it tells of, such as `job.completed`."""
        return str(self._raw.get("event", ""))

    @property
    def endpoint_id(self) -> str | None:
        """The endpoint it is for; None if the URL was given with the job."""
        return self._raw.get("endpoint_id")

    @property
    def url(self) -> str:
        """Where it goes."""
        return str(self._raw.get("url", ""))

    @property
    def job_id(self) -> str | None:
        """The job it tells of."""
        return self._raw.get("job_id")

    @property
    def status(self) -> DeliveryStatus:
        """`pending → sending → delivered | failed | canceled`; between two tries it is `pending`."""
        status: DeliveryStatus = self._raw["status"]
        return status

    @property
    def done(self) -> bool:
        """Whether it has ended. Only a redelivery begins it again."""
        return self.status not in ("pending", "sending")

    @property
    def tried(self) -> bool:
        """Whether the outcome of a first try is known. Lists do not say; `deliveries.get` does."""
        return self.done or (self.status != "sending" and bool(self.attempts))

    @property
    def attempts(self) -> list[DeliveryAttempt]:
        """Every try, oldest first. Empty in lists."""
        return self._raw.get("attempts") or []

    @property
    def next_attempt_at(self) -> datetime | None:
        """When it is tried next; None once it has ended."""
        return self._moment("next_attempt_at")

    @property
    def error(self) -> str | None:
        """Why it failed for good; None unless `failed`."""
        return self._raw.get("error")

    @property
    def created_at(self) -> datetime | None:
        """When the event happened."""
        return self._moment("created_at")

    @property
    def completed_at(self) -> datetime | None:
        """When it ended."""
        return self._moment("completed_at")

    def __repr__(self) -> str:
        return f"WebhookDelivery({self.id!r}, {self.status!r})"


@dataclass(frozen=True)
class WebhookSecret:
    """A tenant's default secret: what the webhooks of URLs that were given with a job are signed with."""

    secret: str = field(repr=False)
    previous_secret_expires_at: datetime | None = None
    """Until when the secret before this one signs, too."""
