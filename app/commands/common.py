"""What every operator command shares: which stack it works on, and how errors and output look."""

import functools
import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.db.health import OLD_SCHEMA, is_of_old_schema
from app.embedded.state import StateDir
from app.errors import HeadraceError, SettingsError, Unavailable
from app.settings import Settings, load

_NAMES = {"id", "name", "model", "version", "pool", "tenant"}
# A pipe has no edge.
_PIPE_WIDTH = 10_000

state_dir_option = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="The stack to work on, unless HEADRACE_* variables name servers. "
    "Default: $HEADRACE_STATE_DIR, else ./.headrace.",
)


def operator_command(command: Callable[..., None]) -> Callable[..., None]:
    """Adds `--state-dir` and passes `settings` first; our errors become one clear line and exit code 1."""

    @state_dir_option
    @functools.wraps(command)
    def run(state_dir: Path | None, **options: Any) -> None:
        try:
            command(_settings(state_dir), **options)
        except Unavailable as error:
            raise click.ClickException(f"{error}{_why(error)}") from None
        except HeadraceError as error:
            raise click.ClickException(str(error)) from None
        except Exception as error:
            if is_of_old_schema(error):
                raise click.ClickException(OLD_SCHEMA) from None
            raise

    return run


def actor() -> str:
    """Who runs this command, for the audit log: the account, and the machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"cli:{user}@{socket.gethostname()}"


as_json = click.option("--json", "as_json", is_flag=True, help="For programs.")


def show(rows: Sequence[dict[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """Rows as a table for a person, or as one JSON array with everything in them.

    On a terminal it is as wide as that, but what names a row, and is typed into the next command, is never
    cut; in a pipe nothing is.
    """
    if as_json:
        click.echo(json.dumps(list(rows), default=_plain))
        return
    table = Table(box=None, pad_edge=False)
    cells = [[_cell(row[column]) for column in columns] for row in rows]
    for place, column in enumerate(columns):
        longest = max((len(row[place]) for row in cells), default=0)
        table.add_column(column, no_wrap=True, min_width=longest if column in _NAMES else None)
    for row in cells:
        table.add_row(*map(Text, row))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(table)


def _plain(value: Any) -> str:
    """For JSON: times as the API has them."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return str(value)


def _cell(value: Any) -> str:
    if isinstance(value, datetime):
        return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
    if isinstance(value, dict):
        value = json.dumps(value, default=str)
    text = ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    # Others wrote some of it, and it must not steer this terminal.
    return (
        "-" if value is None else "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    )


def _why(error: Unavailable) -> str:
    """What the server or the system said. It names host, port and user, and never the password."""
    said = getattr(error.__cause__, "orig", None)
    return f": {str(said).splitlines()[0]}" if said and str(said) else ""


def _settings(state_dir: Path | None) -> Settings:
    environment = StateDir.load_environment(state_dir)
    if state_dir is not None:
        # Named on the command line, so it is meant, whatever the shell has set.
        environment |= StateDir.choose(state_dir).read_env()
    try:
        return load(environment)
    except SettingsError as error:
        problems = error.problems
        if "HEADRACE_DATABASE_URL" not in environment:
            place = StateDir.choose(state_dir).root
            click.echo(f"no stack in {place}: run `headracectl up`, or set HEADRACE_DATABASE_URL", err=True)
            # What a stack's own `env` would say is not to be set one by one.
            problems = [problem for problem in problems if not problem.endswith(": is required")]
        for problem in problems:
            click.echo(problem, err=True)
        sys.exit(2)
