"""What `headrace listen` does with each webhook: verify, forward, show, and say what to answer."""

import threading
from dataclasses import dataclass
from datetime import UTC, datetime

import click

from headrace.cli import output
from headrace.cli.forward import Forwarded, Forwarder
from headrace.cli.receiver import Headers, Reply
from headrace.cli.tries import duration
from headrace.clock import rfc3339
from headrace.errors import WebhookVerificationError
from headrace.webhooks import WebhookEvent, verify

_OK, _BAD_REQUEST, _GONE = 200, 400, 410


@dataclass(frozen=True)
class Received:
    """One request: `event` if it was verified, else `error`; and what became of it."""

    at: datetime
    event: WebhookEvent | None
    error: WebhookVerificationError | None
    forwarded: Forwarded | None
    answered: int


class Inbox:
    """For one endpoint, by its secret. Many threads may use it; what they show is one after the other."""

    def __init__(self, secret: str, forwarder: Forwarder | None, as_json: bool) -> None:
        self._secret = secret
        self._forwarder = forwarder
        self._show = _as_json if as_json else _as_text
        self._one_at_a_time = threading.Lock()
        self.output_gone: OSError | None = None
        """Why nothing can be shown any more, such as that the reader of the pipe has left."""

    def take(self, headers: Headers, body: bytes) -> Reply:
        """Handle one request. The answer is the application's, so that retries go as they will later."""
        at = datetime.now(UTC)
        try:
            event = verify(headers, body, self._secret)
        except WebhookVerificationError as error:
            # Not forwarded: through a tunnel, anybody may knock.
            return self._done(Received(at, None, error, None, _BAD_REQUEST))
        if not self._forwarder:
            return self._done(Received(at, event, None, None, _OK))
        forwarded = self._forwarder.send(headers, body)
        return self._done(Received(at, event, None, forwarded, forwarded.status))

    def _done(self, received: Received) -> Reply:
        with self._one_at_a_time:
            try:
                self._show(received)
            except OSError as error:
                self.output_gone = error
        later = received.forwarded and received.forwarded.retry_after
        return Reply(received.answered, {"Retry-After": later} if later else {})


def _as_text(received: Received) -> None:
    when = f"{received.at.astimezone():%H:%M:%S}"
    if received.event is None:
        click.echo(f"{when}  {click.style('✗', fg='red')}  {received.error}")
        return
    event, forwarded = received.event, received.forwarded
    words = [event.type, *(str(event.data[key]) for key in ("id", "status") if event.data.get(key))]
    if forwarded:
        words.append(f"→ {forwarded.error or forwarded.status} ({duration(forwarded.latency_s)})")
    if received.answered == _GONE:
        words.append("→ a 410 disables the endpoint")
    told = "  ".join(output.clean(word) for word in words)
    click.echo(f"{when}  {click.style('✓', fg='green')}  {told}")


def _as_json(received: Received) -> None:
    event, forwarded = received.event, received.forwarded
    output.line(
        {
            "object": "received_webhook",
            "received_at": rfc3339(received.at),
            "verified": event is not None,
            "error": received.error and received.error.reason,
            "webhook_id": event and event.id,
            "type": event and event.type,
            "timestamp": event and rfc3339(event.timestamp),
            "data": event and event.data,
            "forward": forwarded
            and {"status": forwarded.status, "latency_s": forwarded.latency_s, "error": forwarded.error},
            "answered": received.answered,
        }
    )
