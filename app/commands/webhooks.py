"""`headracectl webhooks`: every tenant's endpoints, and the keys that their secrets are sealed under."""

import json
from uuid import UUID

import click

from app.commands.common import as_json, operator_command, show
from app.db import endpoints as sql
from app.db.engine import make_engine
from app.domain.ids import format_id
from app.domain.sealing import CannotOpen, Keyring
from app.errors import SettingsError
from app.intake import webhook_view
from app.settings import Settings


@click.group()
def webhooks() -> None:
    """Webhook endpoints and their secrets."""


@webhooks.command("list")
@as_json
@operator_command
def list_webhooks(settings: Settings, as_json: bool) -> None:
    """Show every tenant's endpoints, without their secrets."""
    rows = [
        {"tenant": row.tenant, **webhook_view.endpoint(row)}
        for row in sql.list_all(make_engine(settings.database_url))
    ]
    columns = ["id", "tenant", "url", "events", "status", "disabled_reason", "failing_since"]
    show(rows, columns, as_json=as_json)


@webhooks.command()
@as_json
@operator_command
def rekey(settings: Settings, as_json: bool) -> None:
    """Seal every secret under the first key of HEADRACE_ENCRYPTION_KEYS.

    To change the key: put a new one first and keep the old one behind it; restart the senders, then the API;
    run this; then remove the old one. All or nothing; safe to repeat.
    """
    keyring = Keyring.of(settings)
    total = resealed = 0

    def again(sealed: str, owner: str) -> str:
        nonlocal total, resealed
        try:
            secret = keyring.open(sealed, owner)
        except CannotOpen as error:
            raise SettingsError([f"{_named(owner)}: the secret can't be opened: {error}"]) from None
        total += 1
        if keyring.is_current(sealed):
            return sealed
        resealed += 1
        return keyring.seal(secret, owner)

    sql.reseal(make_engine(settings.database_url), again)
    if as_json:
        click.echo(json.dumps({"secrets": total, "resealed": resealed}))
    else:
        click.echo(f"sealed {resealed} of {total} secrets anew; all are under the first key")


def _named(owner: str) -> str:
    kind, _, id = owner.partition(":")
    return format_id(webhook_view.ENDPOINT, UUID(id)) if kind == "endpoint" else f"{kind} {id}"
