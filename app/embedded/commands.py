"""`headracectl up`, `down` and `status`."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import click
from rich.console import Console
from rich.table import Table

from app.embedded.plan import Options
from app.embedded.programs import Worker
from app.embedded.stack import Stack
from app.embedded.state import StateDir
from app.errors import HeadraceError

_state_dir = click.option(
    "--state-dir",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where the stack keeps its data. Default: $HEADRACE_STATE_DIR, else ./.headrace.",
)


@click.command()
@_state_dir
@click.option("--port", type=click.IntRange(1, 65535), help="The API's port. Default: a free one.")
@click.option("--detach", is_flag=True, help="Return when the stack is ready; it goes on running.")
@click.option(
    "--worker",
    "workers",
    multiple=True,
    metavar="NAME:QUEUES[:SLOTS]",
    help="A worker, instead of the default ones: fast:cpu.interactive,cpu.batch:4. Repeatable.",
)
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="FILE.py:CLASS",
    help="A model to register beside the examples. Repeatable.",
)
def up(
    state_dir: Path | None,
    port: int | None,
    detach: bool,
    workers: tuple[str, ...],
    models: tuple[str, ...],
) -> None:
    """Run the whole system on this machine: Postgres, Valkey, API, workers, scheduler, Flower.

    With HEADRACE_DATABASE_URL or HEADRACE_REDIS_URL set, that server is used instead of an embedded
    one. All data is under the state dir: the next `up` goes on with it.
    """
    stack = Stack(StateDir.choose(state_dir))
    with _one_line_errors(), _ending_on_signals():
        options = Options(port, [Worker.parse(worker) for worker in workers], models)
        try:
            env, supervisor = stack.up(options, os.environ, attached=not detach, say=_note)
        except KeyboardInterrupt:
            sys.exit(130)
        _announce(stack.state, env, detach)
        if detach:
            return
        try:
            if supervisor.wait() == 0:
                # By a `down`, which does the rest.
                return
            log = stack.state.log("supervisord")
            failure = f"the supervisor ended by itself; see {log}"
        except KeyboardInterrupt:
            click.echo("stopping")
            failure = None
        with _undisturbed():
            stack.down()
    if failure:
        raise click.ClickException(failure)


@click.command()
@_state_dir
def down(state_dir: Path | None) -> None:
    """Stop the stack; its data stays."""
    stack = Stack(StateDir.choose(state_dir))
    with _one_line_errors():
        stopped = stack.down()
    click.echo("stopped" if stopped else f"no stack runs in {stack.state.root}")


@click.command()
@_state_dir
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def status(state_dir: Path | None, as_json: bool) -> None:
    """Show every process of the stack."""
    stack = Stack(StateDir.choose(state_dir))
    with _one_line_errors():
        processes = stack.processes()
        url = stack.state.read_env().get("HEADRACE_URL") if processes else None
    if as_json:
        click.echo(json.dumps({"processes": [vars(item) for item in processes], "url": url}))
    elif not processes:
        click.echo(f"no stack runs in {stack.state.root}")
    else:
        table = Table("process", "pid", "state", title=url)
        for item in processes:
            table.add_row(item.name, str(item.pid or "-"), item.state.lower())
        Console().print(table)


def _announce(state: StateDir, env: Mapping[str, str], detached: bool) -> None:
    click.echo(f"API     {env['HEADRACE_URL']}")
    click.echo(f"key     {env['HEADRACE_API_KEY']}")
    click.echo(f"Flower  {env['HEADRACE_FLOWER_URL']}")
    click.echo(f"state   {state.root} (all of this is in {state.env_file})")
    if not detached:
        click.echo("ready; Ctrl-C stops it")


def _note(text: str) -> None:
    click.echo(text, err=True)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except (HeadraceError, PermissionError) as error:
        raise click.ClickException(str(error)) from error


@contextmanager
def _ending_on_signals() -> Iterator[None]:
    """Within, SIGTERM and a closed terminal do what Ctrl-C does (but not under nohup)."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    wanted = [signal.SIGTERM, signal.SIGHUP]
    with _handling(interrupt, *(number for number in wanted if signal.getsignal(number) != signal.SIG_IGN)):
        yield


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Within, being asked to stop once more changes nothing: we are at it."""
    with _handling(signal.SIG_IGN, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def _handling(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, *signals: signal.Signals
) -> Iterator[None]:
    before = {number: signal.signal(number, handler) for number in signals}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
