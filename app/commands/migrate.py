"""`headracectl migrate`: bring the schema up to date."""

import click

from app.commands.common import operator_command
from app.db.migrate import downgrade, upgrade
from app.settings import Settings


@click.command()
@click.option("--to", "revision", default="head", show_default=True, help="A revision, or head.")
@click.option("--down", is_flag=True, help="Go back to the revision instead. `base` removes all data.")
@operator_command
def migrate(settings: Settings, revision: str, down: bool) -> None:
    """Run the migrations. Safe to run from several machines at a time: they queue up."""
    url, api_url = settings.database_url.get_secret_value(), settings.api.database_url
    if down:
        downgrade(url, revision)
    else:
        upgrade(url, revision, api_url.get_secret_value() if api_url else None)
        if api_url and revision == "head":
            click.echo("the role of HEADRACE_API_DATABASE_URL may do what the API does")
    click.echo(f"the schema is at {revision}")
