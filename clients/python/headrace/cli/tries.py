"""What became of a delivery's try, in words for people."""

from headrace.types import DeliveryAttempt
from headrace.webhook_records import WebhookDelivery

_CAUSES = {
    "timeout": "it did not answer in time (15 s in all)",
    "connection_refused": "it refused the connection: nothing listens there",
    "connection_failed": "the connection broke",
    "dns": "its name leads nowhere (DNS)",
    "tls": "no TLS connection: is its certificate valid for this name?",
    "blocked": "the server must not call its address, which is not a public one",
    "invalid_response": "what it answered is not HTTP",
    "sender_lost": "the sender was lost on the way",
    "internal_error": "an error of the server's own",
}
_STATUS_HINTS = {
    "http_status": ", which is not a success (2xx)",
    "redirect": ", and redirects are never followed: register the address it leads to",
    "gone": ", so it is disabled now and not called any more",
}


def outcome(attempt: DeliveryAttempt) -> str:
    """`it answered 500, which is not a success (2xx)`."""
    error, status = attempt.get("error") or "", attempt.get("status_code")
    if status is None:
        return _CAUSES.get(error, f"it failed ({error})")
    return f"it answered {status}{_STATUS_HINTS.get(error, '')}"


def sentence(delivery: WebhookDelivery) -> str:
    """How a delivery stands after its last try."""
    if not delivery.attempts:
        return f"{delivery.url}: {delivery.status}, never tried"
    last = delivery.attempts[-1]
    mark = "✓" if delivery.status == "delivered" else "✗"
    latency = last.get("latency_s")
    took = f" ({duration(latency)})" if latency is not None else ""
    return f"{mark} {delivery.url}: {outcome(last)}{took}"


def duration(seconds: float) -> str:
    """`12 ms` or `1.2 s`."""
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"
