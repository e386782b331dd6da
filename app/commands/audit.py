"""`headracectl audit`: what operators did."""

import click

from app.commands.common import as_json, operator_command, show
from app.db import audit as sql
from app.db.engine import make_engine
from app.settings import Settings


@click.command()
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="Newest first.")
@click.option("--action", help="Only actions that begin so, as `keys` or `tenants.set`.")
@as_json
@operator_command
def audit(settings: Settings, limit: int, action: str | None, as_json: bool) -> None:
    """Show who did what to tenants, keys, models and workers, and when."""
    rows = sql.latest(make_engine(settings.database_url), limit, action)
    show(rows, ["at", "actor", "action", "subject", "details"], as_json=as_json)
