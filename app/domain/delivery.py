"""How a delivery goes: when it is tried again, when it is given up, when its endpoint is.

A delivery is one event for one URL. Like a job it is in exactly one place, and a move is one statement:

    tell ─► QUEUE ──claim──► LEASE ──settle──► RESULT (delivered, failed, canceled)
             ▲                 │                  │
             └── retry, rescue ┘ ◄── redeliver ───┘

The schedule is Svix's (https://docs.svix.com/retries): each delay counts from the end of the try before.
"""

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class Event(StrEnum):
    """What a receiver may be told of."""

    JOB_STARTED = "job.started"
    JOB_COMPLETED = "job.completed"
    BATCH_COMPLETED = "batch.completed"
    BATCH_FAILED = "batch.failed"
    BATCH_EXPIRED = "batch.expired"
    BATCH_CANCELLED = "batch.cancelled"
    ENDPOINT_DISABLED = "endpoint.disabled"
    ENDPOINT_TEST = "endpoint.test"
    """Sent on request only: nobody subscribes to it."""


SUBSCRIBABLE = tuple(event for event in Event if event is not Event.ENDPOINT_TEST)

DELAYS_S = (0, 5, 5 * 60, 30 * 60, 2 * 3600, 5 * 3600, 10 * 3600, 10 * 3600)
"""Seconds before each try, counted from the one before: eight tries in 27.6 hours."""

JITTER = 0.2
"""A delay is up to this much longer, so that what failed together does not come back together."""

DISABLE_AFTER = timedelta(days=5)
"""How long an endpoint may fail without one success."""


class DeliveryStatus(StrEnum):
    """What the API shows."""

    PENDING = "pending"
    SENDING = "sending"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELED = "canceled"


class TryError(StrEnum):
    """Why a try failed. All that is kept of it besides the status code: never what the receiver said."""

    HTTP_STATUS = "http_status"
    REDIRECT = "redirect"
    GONE = "gone"
    TIMEOUT = "timeout"
    CONNECTION_REFUSED = "connection_refused"
    CONNECTION_FAILED = "connection_failed"
    DNS = "dns"
    TLS = "tls"
    BLOCKED = "blocked"
    INVALID_RESPONSE = "invalid_response"
    SENDER_LOST = "sender_lost"
    INTERNAL_ERROR = "internal_error"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a delivery after a try: `pending` again after `delay_s`, or an end."""

    status: DeliveryStatus
    delay_s: float = 0.0


def judge(attempt: int, error: TryError | None, jitter: float, retry_after_s: float | None = None) -> Verdict:
    """The verdict on try number `attempt` (the first is 1). `jitter` is in [0, 1).

    A receiver's Retry-After is honoured where it asks for more than the schedule, up to twice of it.
    """
    if error is None:
        return Verdict(DeliveryStatus.DELIVERED)
    if error is TryError.GONE or attempt >= len(DELAYS_S):
        return Verdict(DeliveryStatus.FAILED)
    planned = DELAYS_S[attempt]
    asked = min(retry_after_s or 0.0, 2.0 * planned)
    return Verdict(DeliveryStatus.PENDING, max(asked, planned * (1 + JITTER * jitter)))


def error_of_status(status: int) -> TryError | None:
    """What an answer's status means: any 2xx is a success, and a redirect is never followed."""
    if 200 <= status < 300:
        return None
    if 300 <= status < 400:
        return TryError.REDIRECT
    return TryError.GONE if status == 410 else TryError.HTTP_STATUS
