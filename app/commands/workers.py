"""`headracectl workers`: what runs, where, what it holds; and how to have it leave."""

import json
from pathlib import Path

import click

from app.commands.common import actor, as_json, operator_command, show, state_dir_option
from app.db import workers as sql
from app.db.engine import make_engine
from app.errors import NotFound
from app.settings import Settings


@click.group(invoke_without_command=True)
@state_dir_option
@as_json
@click.pass_context
def workers(context: click.Context, state_dir: Path | None, as_json: bool) -> None:
    """Show every worker process: pool, device, state, heartbeat, the models it holds."""
    if context.invoked_subcommand is None:
        _show_all(state_dir=state_dir, as_json=as_json)


@operator_command
def _show_all(settings: Settings, as_json: bool) -> None:
    rows = sql.list_all(make_engine(settings.database_url))
    columns = ["name", "pool", "device", "state", "drain_cause", "heartbeat_at", "model", "batch_size"]
    show(rows, columns, as_json=as_json)


@workers.command()
@click.argument("name", required=False)
@click.option("--pool", help="Every worker of this pool.")
@click.option("--within", "within_s", type=click.FloatRange(min=0), help="Seconds until they must be gone.")
@as_json
@operator_command
def drain(
    settings: Settings, name: str | None, pool: str | None, within_s: float | None, as_json: bool
) -> None:
    """Have workers leave: NAME (as `workers` shows it, with or without the slot), or those of --pool.

    A worker claims nothing more, ends its micro-batches, gives the rest back without a charge, and ends.
    Without --within it takes the time it needs.
    """
    if (name is None) == (pool is None):
        raise click.UsageError("say which: a NAME, or --pool")
    told = sql.tell_to_drain(
        make_engine(settings.database_url),
        name=name,
        pool=pool,
        within_s=within_s,
        subject=name or f"pool {pool}",
        actor=actor(),
    )
    if not told:
        which = f"of pool {pool}" if pool else f"named {name}"
        raise NotFound("worker_not_found", f"there is no ready worker {which}")
    if as_json:
        click.echo(json.dumps({"draining": told}))
    else:
        click.echo("\n".join(told))
