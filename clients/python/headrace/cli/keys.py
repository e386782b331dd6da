"""`headrace keys`: what clients authenticate with. A key is printed once, when it is made."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import get_args

import click

from headrace.admin_records import ApiKey
from headrace.cli import output
from headrace.cli.params import KEY, json_option, limit_option
from headrace.cli.session import Session, pass_session
from headrace.cli.tenants import tenant_name
from headrace.errors import APIConnectionError, ServerError
from headrace.types import Scope

_API_FAILED, _INTERRUPTED = 3, 130

key_id = click.argument("key_id", metavar="ID", type=KEY)


@click.group()
def keys() -> None:
    """Manage tenants' keys (needs a key with the admin scope)."""


@keys.command()
@tenant_name
@click.option("--name", metavar="TEXT", help="What it is for.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(get_args(Scope)),
    multiple=True,
    help="May be repeated. Default: all but admin.",
)
@click.option(
    "--expires-days",
    metavar="N",
    type=click.IntRange(1, 36_500),
    help="In how many days it stops working. Default: never.",
)
@click.option(
    "--requests-per-minute",
    metavar="N",
    type=click.IntRange(min=0),
    help="0 is no limit. Default: its tenant's for each key.",
)
@json_option
@pass_session
def create(
    session: Session,
    tenant: str,
    name: str | None,
    scopes: tuple[Scope, ...],
    expires_days: int | None,
    requests_per_minute: int | None,
    as_json: bool,
) -> None:
    """Make a key of TENANT and print it, this once."""
    with _maybe_made():
        made = session.client.keys.create(
            tenant,
            name=name,
            scopes=scopes or None,
            expires_at=_end(expires_days),
            requests_per_minute=requests_per_minute,
        )
    _print(made, as_json)


@keys.command("list")
@tenant_name
@click.option("--after", metavar="ID", help="Go on after this key.")
@limit_option
@json_option
@pass_session
def list_(session: Session, tenant: str, after: str | None, limit: int, as_json: bool) -> None:
    """List the keys of TENANT, newest first, without their secrets."""
    output.listing(
        session.client.keys.list(tenant, after=after, limit=limit),
        limit,
        as_json,
        ["ID", "NAME", "LIVE", "CREATED", "LAST USED", "EXPIRES", "SCOPES"],
        lambda key: (
            key.id,
            key.name or None,
            "yes" if key.live else "no",
            output.ago(key.created_at),
            output.ago(key.last_used_at),
            output.local(key.expires_at),
            ",".join(key.scopes),
        ),
    )


@keys.command()
@key_id
@click.option(
    "--grace-period",
    metavar="SECONDS",
    type=click.IntRange(min=0),
    help="How long the old key works, too. Default: a day.",
)
@click.option(
    "--expires-days",
    metavar="N",
    type=click.IntRange(1, 36_500),
    help="In how many days the new one stops working. Default: as many as the old one was made for,"
    " if it was not rotated before.",
)
@json_option
@pass_session
def rotate(
    session: Session, key_id: str, grace_period: int | None, expires_days: int | None, as_json: bool
) -> None:
    """Print a new key that may do the same, this once; the old one ends after a while."""
    with _maybe_made():
        made = session.client.keys.rotate(
            key_id, grace_period_seconds=grace_period, expires_at=_end(expires_days)
        )
    _print(made, as_json)


@keys.command()
@key_id
@json_option
@pass_session
def revoke(session: Session, key_id: str, as_json: bool) -> None:
    """End a key, for good."""
    ended = session.client.keys.revoke(key_id)
    if as_json:
        output.document(ended.raw)
    else:
        click.echo(f"{output.clean(ended.id)} revoked")


def _end(days: int | None) -> datetime | None:
    return None if days is None else datetime.now(UTC) + timedelta(days=days)


def _print(made: ApiKey, as_json: bool) -> None:
    """Alone on stdout, so that it can be piped to where secrets are kept."""
    if as_json:
        output.document(made.raw)
    else:
        click.echo(made.key)
    output.note("the key is not shown again: only its hash is stored")


@contextmanager
def _maybe_made() -> Iterator[None]:
    """Where the answer was lost, say how to find the key that nobody has."""
    try:
        yield
        return
    except (APIConnectionError, ServerError) as error:
        why, code = output.clean(str(error)), _API_FAILED
    except KeyboardInterrupt:
        why, code = "interrupted", _INTERRUPTED
    output.complain(f"{why}; a key may have been made: see headrace audit --action keys, and revoke it")
    raise click.exceptions.Exit(code)
