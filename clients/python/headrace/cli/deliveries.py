"""`headrace webhooks deliveries`, and what can be done with one of them."""

from datetime import datetime
from typing import get_args

import click

from headrace.cli import output
from headrace.cli.params import DELIVERY, ENDPOINT, JOB, json_option, limit_option
from headrace.cli.session import Session, pass_session
from headrace.cli.tries import duration, outcome
from headrace.types import DeliveryAttempt, DeliveryStatus

delivery_id = click.argument("delivery_id", metavar="ID", type=DELIVERY)


@click.command()
@click.option("--status", type=click.Choice(get_args(DeliveryStatus)))
@click.option("--endpoint", "endpoint_id", metavar="ID", type=ENDPOINT)
@click.option("--job", "job_id", metavar="ID", type=JOB)
@click.option("--event", metavar="EVENT")
@click.option("--created-after", metavar="TIME", help="RFC 3339, as 2026-01-31T12:00:00Z.")
@click.option("--created-before", metavar="TIME")
@click.option("--after", metavar="ID", help="Go on after this delivery.")
@limit_option
@json_option
@pass_session
def deliveries(
    session: Session,
    status: DeliveryStatus | None,
    endpoint_id: str | None,
    job_id: str | None,
    event: str | None,
    created_after: str | None,
    created_before: str | None,
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List what was delivered, newest first."""
    found = session.client.webhooks.deliveries.list(
        status=status,
        endpoint_id=endpoint_id,
        job_id=job_id,
        event=event,
        created_after=created_after,
        created_before=created_before,
        after=after,
        limit=limit,
    )
    output.listing(
        found,
        limit,
        as_json,
        ["ID", "STATUS", "EVENT", "ERROR", "URL", "CREATED"],
        lambda d: (d.id, d.status, d.event, d.error, d.url, output.ago(d.created_at)),
    )


@click.command()
@delivery_id
@json_option
@pass_session
def delivery(session: Session, delivery_id: str, as_json: bool) -> None:
    """Show a delivery, and how each try went."""
    found = session.client.webhooks.deliveries.get(delivery_id)
    output.details(found, as_json, besides=["attempts"])
    if found.attempts and not as_json:
        click.echo()
        output.table(["TRY", "STARTED", "TOOK", "OUTCOME"], [_row(one) for one in found.attempts])


@click.command()
@delivery_id
@json_option
@pass_session
def redeliver(session: Session, delivery_id: str, as_json: bool) -> None:
    """Send a delivery now, whatever became of it."""
    again = session.client.webhooks.deliveries.redeliver(delivery_id)
    if as_json:
        output.document(again.raw)
    else:
        click.echo(f"{again.id} {output.clean(again.status)}")


def _row(attempt: DeliveryAttempt) -> tuple[str | None, ...]:
    started = attempt.get("started_at")
    when = output.ago(datetime.fromisoformat(started)) if started else None
    latency = attempt.get("latency_s")
    took = None if latency is None else duration(latency)
    return str(attempt.get("attempt")), when, took, outcome(attempt)
