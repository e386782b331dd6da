"""`headracectl workers`: what runs, where, and what it holds."""

import click

from app.commands.common import as_json, operator_command, show
from app.db import workers as sql
from app.db.engine import make_engine
from app.settings import Settings


@click.command()
@as_json
@operator_command
def workers(settings: Settings, as_json: bool) -> None:
    """Show every worker process: pool, device, state, heartbeat, the models it holds."""
    rows = sql.list_all(make_engine(settings.database_url))
    show(rows, ["name", "pool", "device", "state", "heartbeat_at", "model", "batch_size"], as_json=as_json)
