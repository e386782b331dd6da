"""`headracectl`: the operator's command line."""

from importlib import import_module
from importlib.util import find_spec

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


_EMBEDDED = "app.embedded.commands"
"""Where nothing is embedded, as in the images, what it needs is not installed."""


def _missing(module: str) -> bool:
    return module == _EMBEDDED and find_spec("psutil") is None


class _Commands(click.Group):
    """The commands of `_COMMANDS`: each is an object of its own name in its module."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        return sorted(name for name, module in _COMMANDS.items() if not _missing(module))

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        if _missing(module):
            raise click.UsageError(f"`{cmd_name}` runs the embedded stack: pip install 'headrace[embedded]'")
        command: click.Command = getattr(import_module(module), cmd_name)
        return command


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="headracectl", message="%(prog)s %(version)s")
def main() -> None:
    """Run and operate Headrace."""
