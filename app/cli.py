"""`headracectl`: the operator's command line."""

import click

from app import __version__
from app.commands.doctor import doctor
from app.commands.keys import keys
from app.commands.migrate import migrate
from app.commands.models import models
from app.commands.pools import pools
from app.commands.webhooks import webhooks
from app.commands.workers import workers
from app.embedded.commands import down, status, up


@click.group()
@click.version_option(__version__, prog_name="headracectl")
def main() -> None:
    """Run and operate Headrace."""


for command in (up, down, status, migrate, keys, models, workers, pools, webhooks, doctor):
    main.add_command(command)
