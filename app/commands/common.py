"""What every operator command shares: which stack it works on, and how errors and output look."""

import functools
import getpass
import json
import os
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from app.db.health import OLD_SCHEMA, is_of_old_schema
from app.embedded.state import StateDir
from app.errors import HeadraceError, SettingsError
from app.settings import Settings, load

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
    """Rows as a table for a person, or as one JSON array with everything in them."""
    if as_json:
        click.echo(json.dumps(list(rows), default=str))
        return
    table = Table(*columns)
    for row in rows:
        table.add_row(*(_cell(row[column]) for column in columns))
    Console().print(table)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _settings(state_dir: Path | None) -> Settings:
    environment = StateDir.load_environment(state_dir)
    if state_dir is not None:
        # Named on the command line, so it is meant, whatever the shell has set.
        environment |= StateDir.choose(state_dir).read_env()
    try:
        return load(environment)
    except SettingsError as error:
        if "HEADRACE_DATABASE_URL" not in environment:
            place = StateDir.choose(state_dir).root
            click.echo(f"no stack in {place}: run `headracectl up`, or set HEADRACE_DATABASE_URL", err=True)
        for problem in error.problems:
            click.echo(problem, err=True)
        sys.exit(2)
