"""`headrace batch`: the commands that take a batch's id, and `list`. `run` has a module of its own."""

from typing import get_args

import click

from headrace.batch import Batch
from headrace.cli import batch_run, output, progress
from headrace.cli.params import OutFile, batch_id, json_option, limit_option, metadata_option
from headrace.cli.session import Session, pass_session
from headrace.cli.stopping import told_if_interrupted
from headrace.types import BatchStatus


@click.group()
def batch() -> None:
    """Run a whole file in bulk, and see what became of it."""


batch.add_command(batch_run.run)


@batch.command()
@batch_id
@click.option("--watch", is_flag=True, help="Follow it until it ends.")
@json_option
@pass_session
def status(session: Session, batch_id: str, watch: bool, as_json: bool) -> None:
    """Show how far a batch is. With --watch, the exit code says how it ended."""
    found = session.client.batches.get(batch_id)
    if watch:
        with told_if_interrupted(batch_run.batch_goes_on(found)):
            batch_run.follow(found)
    _show(found, as_json)
    if watch:
        batch_run.exit_as_it_ended(found)


@batch.command()
@batch_id
@click.option("-o", "--output", "path", type=OutFile(), help="Default: stdout.")
@pass_session
def results(session: Session, batch_id: str, path: str | None) -> None:
    """Print what became of each line that ended, as JSONL, in the order of the file."""
    batch_run.write(session.client.batches.results(batch_id), path, None)


@batch.command()
@batch_id
@json_option
@pass_session
def errors(session: Session, batch_id: str, as_json: bool) -> None:
    """Print the lines that did not succeed, and why."""
    for found in session.client.batches.errors(batch_id):
        if as_json:
            output.line(found.raw)
            continue
        error = found.error or {}
        where = f"line {found.line}" if found.line else None
        named = " ".join(filter(None, (where, found.custom_id))) or "the file"
        click.echo(output.clean(f"{named}: {error.get('code')}: {error.get('message')}"))


@batch.command("list")
@click.option("--status", type=click.Choice(get_args(BatchStatus)))
@metadata_option
@click.option("--after", metavar="ID", help="Go on after this batch.")
@limit_option
@json_option
@pass_session
def list_(
    session: Session,
    status: BatchStatus | None,
    metadata: tuple[tuple[str, str], ...],
    after: str | None,
    limit: int,
    as_json: bool,
) -> None:
    """List batches, newest first."""
    found = session.client.batches.list(status=status, metadata=dict(metadata), after=after, limit=limit)
    output.listing(
        found,
        limit,
        as_json,
        ["ID", "STATUS", "PROGRESS", "CREATED"],
        lambda one: (one.id, one.status, progress.note(one), output.ago(one.created_at)),
    )


@batch.command()
@batch_id
@json_option
@pass_session
def cancel(session: Session, batch_id: str, as_json: bool) -> None:
    """End a batch: what waits at once, what runs within one micro-batch."""
    ended = session.client.batches.cancel(batch_id)
    if as_json:
        output.document(ended.raw)
    else:
        click.echo(f"{ended.id} {output.clean(ended.status)}")


@batch.command()
@batch_id
@json_option
@pass_session
def retry(session: Session, batch_id: str, as_json: bool) -> None:
    """Run what did not succeed again, and print the new batch's id."""
    made = session.client.batches.retry(batch_id)
    if as_json:
        output.document(made.raw)
    else:
        click.echo(made.id)


def _show(found: Batch, as_json: bool) -> None:
    output.details(found, as_json, besides=["errors", "request_counts"])
    if not as_json and found.wrong_lines:
        output.note(f"headrace batch errors {found.id}")
