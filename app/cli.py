"""`headracectl`: the operator's command line."""

from importlib import import_module

import click

from app import __version__

# Imported when asked for: most commands need a tenth of what all of them together load.
_COMMANDS = {
    "up": "app.embedded.commands",
    "down": "app.embedded.commands",
    "status": "app.embedded.commands",
    "migrate": "app.commands.migrate",
    "tenants": "app.commands.tenants",
    "keys": "app.commands.keys",
    "audit": "app.commands.audit",
    "models": "app.commands.models",
    "workers": "app.commands.workers",
    "pools": "app.commands.pools",
    "webhooks": "app.commands.webhooks",
    "doctor": "app.commands.doctor",
}


class _Commands(click.Group):
    """The commands of `_COMMANDS`: each is an object of its own name in its module."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = getattr(import_module(module), cmd_name)
        return command


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="headracectl")
def main() -> None:
    """Run and operate Headrace."""
