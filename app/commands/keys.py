"""`headracectl keys`: create, list and revoke API keys."""

import json
from datetime import UTC, datetime, timedelta

import click

from app.commands.common import actor, as_json, operator_command, show
from app.db import keys as sql
from app.db import tenants
from app.db.engine import make_engine
from app.domain.scopes import SCOPES, USUAL_SCOPES
from app.errors import NotFound
from app.intake.keys import issue_key, rotate_key
from app.intake.tenant_request import check_name
from app.settings import Settings


@click.group()
def keys() -> None:
    """Keys that clients authenticate with."""


@keys.command()
@click.option("--tenant", default="default", show_default=True, help="Made if there is none of this name.")
@click.option("--name", default="", help="What the key is for.")
@click.option(
    "--scope", "scopes", type=click.Choice(SCOPES), multiple=True, help="Repeatable. Default: all but admin."
)
@click.option(
    "--expires-days", type=click.IntRange(1, 36_500), help="Days until it stops working. Default: never."
)
@click.option(
    "--requests-per-minute", type=click.IntRange(0, 1_000_000), help="0: no limit. Default: its tenant's."
)
@as_json
@operator_command
def create(
    settings: Settings,
    tenant: str,
    name: str,
    scopes: tuple[str, ...],
    expires_days: int | None,
    requests_per_minute: int | None,
    as_json: bool,
) -> None:
    """Make a key and print it: the only time it is seen."""
    engine = make_engine(settings.database_url)
    if tenants.get(engine, tenant) is None:
        check_name(tenant)
    key = issue_key(
        engine,
        settings.secret_key.get_secret_value(),
        tenants.ensure(engine, tenant, actor=actor()),
        name=name,
        scopes=scopes or USUAL_SCOPES,
        expires_at=_end(expires_days),
        requests_per_minute=requests_per_minute,
        actor=actor(),
    )
    key_id = key.split("_")[1]
    if as_json:
        click.echo(json.dumps({"key": key, "id": key_id, "tenant": tenant}))
    else:
        click.echo(key)
        click.echo("Keep it: only its hash is stored.", err=True)


@keys.command("list")
@as_json
@operator_command
def list_keys(settings: Settings, as_json: bool) -> None:
    """Show every key, without its secret."""
    rows = [
        {
            "id": row.id,
            "tenant": row.tenant,
            "name": row.name,
            "scopes": row.scopes,
            "created_at": row.created_at,
            "expires_at": row.expires_at,
            "revoked_at": row.revoked_at,
            "last_used_at": row.last_used_at,
            "requests_per_minute": row.requests_per_minute,
            "live": row.live,
        }
        for row in sql.list_all(make_engine(settings.database_url))
    ]
    show(rows, ["id", "tenant", "name", "live", "created_at", "expires_at", "last_used_at"], as_json=as_json)


@keys.command()
@click.argument("key_id")
@click.option("--grace-s", default=86_400, show_default=True, type=click.IntRange(0, 604_800))
@click.option(
    "--expires-days",
    type=click.IntRange(1, 36_500),
    help="Days until the new one stops working. Default: as many as this one was made for, if it was not"
    " rotated before.",
)
@operator_command
def rotate(settings: Settings, key_id: str, grace_s: int, expires_days: int | None) -> None:
    """Make a key that may do what this one may, and print it; this one ends after the grace period."""
    engine = make_engine(settings.database_url)
    pepper = settings.secret_key.get_secret_value()
    key = rotate_key(engine, pepper, key_id, grace_s, _end(expires_days), actor=actor())
    click.echo(key)
    made = sql.find(engine, key.split("_")[1])
    until = f", until {made.expires_at:%Y-%m-%d %H:%M} UTC" if made and made.expires_at else ""
    click.echo(f"Keep it{until}: only its hash is stored.", err=True)


@keys.command()
@click.argument("key_id")
@operator_command
def revoke(settings: Settings, key_id: str) -> None:
    """Revoke a key by its id (the middle part of hr_ID_SECRET). API processes notice within seconds."""
    engine = make_engine(settings.database_url)
    if not sql.revoke(engine, key_id, actor=actor()):
        raise NotFound("key_not_found", f"there is no live key with the id {key_id}")
    click.echo(f"revoked {key_id}")


def _end(days: int | None) -> datetime | None:
    return datetime.now(UTC) + timedelta(days=days) if days else None
