"""`headrace webhooks`: the endpoints that are called, and their secrets."""

import click

from headrace.cli import deliveries, output
from headrace.cli.params import ENDPOINT, Events, Seconds, events_option, json_option, limit_option
from headrace.cli.session import Session, pass_session
from headrace.cli.tries import sentence
from headrace.clock import rfc3339
from headrace.types import EndpointStatus, WebhookEventType
from headrace.webhook_records import WebhookEndpoint, WebhookSecret

_NOT_DELIVERED, _NOT_TRIED = 1, 4

endpoint_id = click.argument("endpoint_id", metavar="ID", type=ENDPOINT)
grace_option = click.option(
    "--grace-period",
    metavar="SECONDS",
    type=click.IntRange(min=0),
    help="How long the old secret signs, too. Default: a day.",
)


@click.group()
def webhooks() -> None:
    """Be called back: register URLs, test them, see what was delivered."""


@webhooks.command()
@click.argument("url")
@events_option
@click.option("--description", metavar="TEXT")
@json_option
@pass_session
def create(
    session: Session,
    url: str,
    events: tuple[WebhookEventType, ...] | None,
    description: str | None,
    as_json: bool,
) -> None:
    """Register URL and print its secret, this once."""
    made = session.client.webhooks.create(url, events=events, description=description)
    output.details(made, as_json)
    output.note("the secret is not shown again: your receiver verifies with it")


@webhooks.command("list")
@click.option("--after", metavar="ID", help="Go on after this endpoint.")
@limit_option
@json_option
@pass_session
def list_(session: Session, after: str | None, limit: int, as_json: bool) -> None:
    """List endpoints, newest first."""
    found = session.client.webhooks.list(after=after, limit=limit)
    output.listing(
        found,
        limit,
        as_json,
        ["ID", "STATUS", "EVENTS", "URL", "CREATED"],
        lambda e: (e.id, e.status, ",".join(e.events), e.url, output.ago(e.created_at)),
    )


@webhooks.command()
@endpoint_id
@json_option
@pass_session
def show(session: Session, endpoint_id: str, as_json: bool) -> None:
    """Show an endpoint."""
    output.details(session.client.webhooks.get(endpoint_id), as_json)


@webhooks.command()
@endpoint_id
@click.option("--url", metavar="URL")
@click.option("--events", metavar="EVENT,…", type=Events(), help="All of them, not only the new ones.")
@click.option("--description", metavar="TEXT")
@click.option("--enable/--disable", "enabled", default=None, help="Whether it is called at all.")
@json_option
@pass_session
def update(
    session: Session,
    endpoint_id: str,
    url: str | None,
    events: tuple[WebhookEventType, ...] | None,
    description: str | None,
    enabled: bool | None,
    as_json: bool,
) -> None:
    """Change what is given, and nothing else."""
    if (url, events, description, enabled) == (None,) * 4:
        raise click.UsageError("give what to change: --url, --events, --description, --enable, --disable")
    status: EndpointStatus | None = None
    if enabled is not None:
        status = "enabled" if enabled else "disabled"
    changed = session.client.webhooks.update(
        endpoint_id, url=url, events=events, description=description, status=status
    )
    output.details(changed, as_json)


@webhooks.command()
@endpoint_id
@json_option
@pass_session
def delete(session: Session, endpoint_id: str, as_json: bool) -> None:
    """Remove an endpoint. What was still to be delivered to it is canceled."""
    session.client.webhooks.delete(endpoint_id)
    if as_json:
        output.document({"id": endpoint_id, "deleted": True})
    else:
        click.echo(f"{endpoint_id} deleted")


@webhooks.command("rotate-secret")
@endpoint_id
@grace_option
@json_option
@pass_session
def rotate_secret(session: Session, endpoint_id: str, grace_period: int | None, as_json: bool) -> None:
    """Print a new secret, this once; the old one goes on for a while."""
    made = session.client.webhooks.rotate_secret(endpoint_id, grace_period_seconds=grace_period)
    if as_json:
        output.document(made.raw)
    else:
        _print_secret(made)


@webhooks.command()
@click.option("--rotate", is_flag=True, help="Make a new one first.")
@grace_option
@json_option
@pass_session
def secret(session: Session, rotate: bool, grace_period: int | None, as_json: bool) -> None:
    """Print the secret that webhooks given with a job are signed with."""
    if grace_period is not None and not rotate:
        raise click.UsageError("--grace-period goes with --rotate")
    endpoints = session.client.webhooks
    if rotate:
        found = endpoints.rotate_default_secret(grace_period_seconds=grace_period)
    else:
        found = endpoints.default_secret()
    if as_json:
        until = rfc3339(found.previous_secret_expires_at)
        output.document({"secret": found.secret, "previous_secret_expires_at": until})
    else:
        _print_secret(found)


@webhooks.command()
@endpoint_id
@click.option(
    "--timeout",
    metavar="SECONDS",
    type=Seconds(min=0),
    default=30.0,
    show_default=True,
    help="How long to wait for the outcome.",
)
@json_option
@pass_session
def test(session: Session, endpoint_id: str, timeout: float, as_json: bool) -> None:
    """Send a test event, and say how the receiver took it (exit code 0 or 1)."""
    delivery = session.client.webhooks.test(endpoint_id, wait=timeout)
    if as_json:
        output.document(delivery.raw)
    if not delivery.tried:
        output.complain(f"{delivery.id} is still {delivery.status} after {timeout:g} s; is a sender running?")
        raise click.exceptions.Exit(_NOT_TRIED)
    if not as_json:
        click.echo(output.clean(sentence(delivery)))
        output.note(f"headrace webhooks delivery {delivery.id}")
    if delivery.status != "delivered":
        raise click.exceptions.Exit(_NOT_DELIVERED)


@webhooks.command()
@endpoint_id
@click.option("--since", metavar="TIME", required=True, help="RFC 3339, as 2026-01-31T12:00:00Z.")
@json_option
@pass_session
def recover(session: Session, endpoint_id: str, since: str, as_json: bool) -> None:
    """Send again all that failed since a time."""
    count = session.client.webhooks.recover(endpoint_id, since)
    if as_json:
        output.document({"endpoint_id": endpoint_id, "since": since, "count": count})
    else:
        click.echo(f"{count} {'delivery is' if count == 1 else 'deliveries are'} queued again")


for command in (deliveries.deliveries, deliveries.delivery, deliveries.redeliver):
    webhooks.add_command(command)


def _print_secret(made: WebhookEndpoint | WebhookSecret) -> None:
    """Alone on stdout, so that it can be piped to where secrets are kept."""
    click.echo(made.secret)
    if expires := made.previous_secret_expires_at:
        output.note(f"the one before signs too until {output.local(expires)}")
