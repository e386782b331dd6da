"""`headrace audit`: what operators did."""

import click

from headrace.cli import output
from headrace.cli.params import json_option, limit_option
from headrace.cli.session import Session, pass_session


@click.command()
@click.option("--action", metavar="TEXT", help="Only actions that begin so, as keys or keys.revoke.")
@click.option("--after", metavar="ID", help="Go on after this line.")
@limit_option
@json_option
@pass_session
def audit(session: Session, action: str | None, after: str | None, limit: int, as_json: bool) -> None:
    """Show who did what to tenants, keys, models and workers (needs a key with the admin scope)."""
    output.listing(
        session.client.audit.list(action=action, after=after, limit=limit),
        limit,
        as_json,
        ["AT", "ACTOR", "ACTION", "SUBJECT", "DETAILS"],
        lambda line: (
            output.local(line.at),
            line.actor,
            line.action,
            line.subject,
            output.jsonl(line.details) if line.details else None,
        ),
    )
