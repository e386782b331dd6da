"""`headrace listen`: be the receiver while you write one."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import click

from headrace.cli import output
from headrace.cli.forward import Forwarder
from headrace.cli.inbox import Inbox
from headrace.cli.params import HttpUrl, events_option
from headrace.cli.receiver import HOST, Receiver
from headrace.cli.session import Session, pass_session
from headrace.cli.stopping import asked_to_stop
from headrace.client import Client
from headrace.config import LOOPBACK
from headrace.errors import HeadraceError, NotFoundError, ValidationError
from headrace.types import WebhookEventType
from headrace.webhook_records import WebhookEndpoint


@click.command()
@click.option(
    "--forward", metavar="URL", type=HttpUrl("http://localhost:3000/hook"), help="Your application."
)
@events_option
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="Where to listen. Default: any free one."
)
@click.option(
    "--public-url",
    metavar="URL",
    type=HttpUrl("https://my-tunnel.example"),
    help="The tunnel that leads to --port, if the server is elsewhere.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, an object a line.")
@pass_session
def listen(
    session: Session,
    forward: str | None,
    events: tuple[WebhookEventType, ...] | None,
    port: int,
    public_url: str | None,
    as_json: bool,
) -> None:
    """Show webhooks as they come, verified, and forward them to your application.

    Registers an endpoint on this machine for as long as it runs. The sender gets your application's
    answer, so that retries go as they will later.

    \b
    headrace listen
    headrace listen --forward http://localhost:3000/hook --events job.started,job.completed
    headrace listen --port 4000 --public-url https://my-tunnel.example
    """
    if public_url and not port:
        raise click.UsageError("--public-url needs --port, the one that the tunnel leads to")
    if forward and port and _is_here(forward, port):
        raise click.UsageError("--forward leads back to --port; which one is your application's?")
    forwarder = Forwarder(forward) if forward else None
    # Bound before it is registered, so that no delivery finds the door shut.
    with _bound(port) as receiver, asked_to_stop() as stopped:
        with _registered(session.client, public_url or receiver.url, events) as endpoint:
            inbox = Inbox(endpoint.secret or "", forwarder, as_json)
            _welcome(endpoint, forwarder, as_json)
            receiver.run(inbox.take, lambda: stopped() or inbox.output_gone is not None)
        if inbox.output_gone:
            raise inbox.output_gone


@contextmanager
def _bound(port: int) -> Iterator[Receiver]:
    try:
        receiver = Receiver(port)
    except OSError as error:
        raise click.UsageError(f"can't listen on port {port}: {error.strerror}") from None
    try:
        yield receiver
    finally:
        receiver.server_close()


@contextmanager
def _registered(
    client: Client, url: str, events: tuple[WebhookEventType, ...] | None
) -> Iterator[WebhookEndpoint]:
    """An endpoint that is removed in the end, whatever happens."""
    try:
        endpoint = client.webhooks.create(url, events=events, description="headrace listen (temporary)")
    except ValidationError as error:
        if _is_here(url) and any(wrong.pointer == "/url" for wrong in error.errors):
            raise click.UsageError(_no_loopback(client)) from None
        raise
    try:
        yield endpoint
    finally:
        _remove(client, endpoint)


def _remove(client: Client, endpoint: WebhookEndpoint) -> None:
    try:
        # Gone already if someone was faster.
        with suppress(NotFoundError):
            client.webhooks.delete(endpoint.id)
    except (HeadraceError, KeyboardInterrupt):
        output.complain(f"an endpoint was left behind; remove it: headrace webhooks delete {endpoint.id}")
        raise


def _welcome(endpoint: WebhookEndpoint, forwarder: Forwarder | None, as_json: bool) -> None:
    if as_json:
        output.line(endpoint.raw)
        return
    lines = [
        f"{endpoint.id} at {endpoint.url} for {', '.join(endpoint.events)}",
        f"its secret is {endpoint.secret}",
        f"forwarding to {forwarder.url}" if forwarder else "",
        "Ctrl-C ends it and removes the endpoint",
    ]
    for line in filter(None, lines):
        click.echo(output.clean(line), err=True)


def _is_here(url: str, port: int | None = None) -> bool:
    parts = urlsplit(url)
    return parts.hostname in LOOPBACK and port in (None, parts.port)


def _no_loopback(client: Client) -> str:
    return (
        f"{client.base_url} calls no loopback address such as {HOST}. A development stack does"
        " (headracectl up); for any other, give --port and the --public-url of a tunnel to it"
    )
