"""`headrace files`: what is sent to be run in bulk, and what comes of it."""

import sys
from pathlib import Path
from typing import get_args

import click

from headrace.cli import output, progress, stopping
from headrace.cli.params import FILE, OutFile, json_option, limit_option
from headrace.cli.session import Session, pass_session
from headrace.types import FilePurpose

file_id = click.argument("file_id", metavar="ID", type=FILE)


@click.group()
def files() -> None:
    """Upload, find, download and delete files."""


@files.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option(
    "--purpose",
    type=click.Choice(["batch", "vision", "user_data"]),
    default="batch",
    show_default=True,
    help="The input of a batch, or media in the input of jobs.",
)
@click.option(
    "--expires-after",
    metavar="SECONDS",
    type=click.IntRange(min=1),
    help="How long it is kept. Default: until it is deleted.",
)
@click.option("--idempotency-key", metavar="KEY", help="The same key never makes a second file.")
@json_option
@pass_session
def upload(
    session: Session,
    file: str,
    purpose: FilePurpose,
    expires_after: int | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Upload FILE (- is stdin) and print its id."""
    source = sys.stdin.buffer if file == "-" else file
    with stopping.told_if_interrupted("no file was made"), progress.of_bytes("uploading") as show:
        try:
            made = session.client.files.create(
                source,
                purpose=purpose,
                expires_after=expires_after,
                idempotency_key=idempotency_key,
                on_progress=show,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    if as_json:
        output.document(made.raw)
    else:
        click.echo(made.id)


@files.command("list")
@click.option("--purpose", type=click.Choice(get_args(FilePurpose)))
@click.option("--after", metavar="ID", help="Go on after this file.")
@limit_option
@json_option
@pass_session
def list_(
    session: Session, purpose: FilePurpose | None, after: str | None, limit: int, as_json: bool
) -> None:
    """List files, newest first."""
    found = session.client.files.list(purpose=purpose, after=after, limit=limit)
    output.listing(
        found,
        limit,
        as_json,
        ["ID", "PURPOSE", "BYTES", "NAME", "CREATED"],
        lambda f: (f.id, f.purpose, f"{f.bytes:,}", f.filename, output.ago(f.created_at)),
    )


@files.command()
@file_id
@json_option
@pass_session
def get(session: Session, file_id: str, as_json: bool) -> None:
    """Show what is known of a file."""
    output.details(session.client.files.get(file_id), as_json)


@files.command()
@file_id
@click.option("-o", "--output", "path", type=OutFile(path_type=Path), help="Default: stdout.")
@pass_session
def download(session: Session, file_id: str, path: Path | None) -> None:
    """Write a file's content to stdout or a file, and check it.

    A download that broke off goes on where it was.
    """
    if path is None:
        for piece in session.client.files.content(file_id):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
        return
    with progress.of_bytes("downloading") as show:
        session.client.files.download(file_id, path, on_progress=show)
    output.note(str(path))


@files.command()
@file_id
@json_option
@pass_session
def delete(session: Session, file_id: str, as_json: bool) -> None:
    """Delete a file, for good."""
    session.client.files.delete(file_id)
    if as_json:
        output.document({"id": file_id, "deleted": True})
    else:
        click.echo(f"{file_id} deleted")
