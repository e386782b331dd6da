"""One try: sign, post, and judge what came of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from app import __version__
from app.db.deliveries import ClaimedDelivery, SettledTry
from app.domain.delivery import DeliveryStatus, TryError, error_of_status, judge
from app.domain.ids import format_id
from app.domain.signature import sign
from app.settings import Sender as SenderSettings
from workers.egress import Answer, Egress, EgressError

_HEADERS = {
    "content-type": "application/json",
    "user-agent": f"Headrace-Webhooks/{__version__}",
}
_OVERLOADED = 429
_BROKEN = 500


@dataclass(frozen=True, slots=True)
class Ready:
    """A claimed delivery with its body and the secrets that sign it, newest first."""

    delivery: ClaimedDelivery
    body: bytes
    secrets: Sequence[str]


async def attempt(
    ready: Ready,
    egress: Egress,
    settings: SenderSettings,
    now: Callable[[], datetime],
    jitter: Callable[[], float],
) -> SettledTry:
    """Try once. A receiver's answer is a status and two headers; its body is read and dropped."""
    delivery = ready.delivery
    signed = sign(format_id("dlv", delivery.id), int(now().timestamp()), ready.body, ready.secrets)
    try:
        answer = await egress.post(
            delivery.url,
            {**_HEADERS, **signed},
            ready.body,
            deadline_s=settings.deadline_s,
            max_bytes=settings.max_answer_bytes,
        )
    except EgressError as failure:
        return _settled(delivery, TryError(failure.kind), jitter())
    error = error_of_status(answer.status)
    return _settled(delivery, error, jitter(), answer, retry_after_s(answer, now()))


def alive(tried: SettledTry) -> bool:
    """Whether the receiver can be sent more: it answered, and not that it is overloaded or broken."""
    code = tried.status_code
    return code is not None and code < _BROKEN and code != _OVERLOADED


def unsent(delivery: ClaimedDelivery, status: DeliveryStatus, error: str | None = None) -> SettledTry:
    """Settles a delivery that was not tried: it waits again, or it has ended for a reason of our own."""
    return SettledTry(
        delivery.id,
        delivery.epoch,
        status,
        error,
        tried=False,
        job_id=delivery.job_id,
        batch_id=delivery.batch_id,
    )


def internal_error(delivery: ClaimedDelivery, jitter: float) -> SettledTry:
    """Settles a delivery that a bug or a wrong setting of ours kept from being tried."""
    return _settled(delivery, TryError.INTERNAL_ERROR, jitter)


def retry_after_s(answer: Answer, now: datetime) -> float | None:
    """Seconds that a Retry-After asks for, given as a number or as a time (RFC 9110, section 10.2.3)."""
    text = (answer.retry_after or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
        since = parsedate_to_datetime(answer.date) if answer.date else now
        return max(0.0, (_aware(until) - _aware(since)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _settled(
    delivery: ClaimedDelivery,
    error: TryError | None,
    jitter: float,
    answer: Answer | None = None,
    retry_after: float | None = None,
) -> SettledTry:
    verdict = judge(delivery.attempt + 1, error, jitter, retry_after)
    return SettledTry(
        delivery.id,
        delivery.epoch,
        verdict.status,
        error,
        delay_s=verdict.delay_s,
        status_code=answer.status if answer else None,
        latency_s=answer.seconds if answer else None,
        job_id=delivery.job_id,
        batch_id=delivery.batch_id,
    )
