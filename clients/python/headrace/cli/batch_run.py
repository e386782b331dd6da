"""`headrace batch run`: a file in, a file of results out."""

import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TextIO

import click

from headrace.batch import Batch
from headrace.batch_result import BatchResult
from headrace.cli import output, progress
from headrace.cli.params import HttpUrl, OutFile, json_option, metadata_option
from headrace.cli.session import Session, pass_session
from headrace.cli.stopping import told_if_interrupted
from headrace.errors import BatchCancelled, BatchExpired, BatchFailed
from headrace.types import OnInvalid

_SOME_FAILED, _BAD_INPUT = 1, 2


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--model", metavar="M", help="Each line of FILE is an input for this model.")
@click.option(
    "-o",
    "--output",
    "out",
    metavar="OUT.jsonl",
    type=OutFile(),
    help="Where the results go. Default: stdout.",
)
@click.option(
    "--errors",
    "err",
    metavar="ERR.jsonl",
    type=OutFile(),
    help="Where the lines go that did not succeed. Default: among the results.",
)
@click.option(
    "--on-invalid",
    type=click.Choice(["fail", "skip"]),
    help="What wrong lines mean: nothing is run (the default), or the others are.",
)
@click.option("--endpoint", type=click.Choice(["/v1/jobs", "/v1/embeddings"]), help="Default: as FILE says.")
@click.option("--window", metavar="24h", help="What has not begun after it expires: 30m, 24h, 7d.")
@click.option("--dry-run", is_flag=True, help="Only validate, and estimate.")
@click.option("--webhook", metavar="URL", type=HttpUrl("https://…"), help="Where to call when it ends.")
@metadata_option
@click.option("--idempotency-key", metavar="KEY", help="Another key runs the same FILE anew.")
@click.option("--detach", is_flag=True, help="Print the batch's id and leave it to itself.")
@json_option
@pass_session
def run(
    session: Session,
    file: str,
    model: str | None,
    out: str | None,
    err: str | None,
    on_invalid: OnInvalid | None,
    endpoint: str | None,
    window: str | None,
    dry_run: bool,
    webhook: str | None,
    metadata: tuple[tuple[str, str], ...],
    idempotency_key: str | None,
    detach: bool,
    as_json: bool,
) -> None:
    """Run FILE (- is stdin) in bulk, wait, and write the results in its order.

    With --model each line is an input, as JSON, named by its own "custom_id" or its number. Without, each
    line is a request as OpenAI's batches have them.

    The same command again, within a day, finds the batch that it made and goes on with it.

    \b
    headrace batch run texts.jsonl --model minilm -o embeddings.jsonl
    """
    if as_json and not (out or detach or dry_run):
        raise click.UsageError("--json needs -o FILE, --detach or --dry-run: stdout is for the results")
    _check_apart(file, out, err)
    began_again = "nothing runs yet, and the same command begins again"
    with told_if_interrupted(began_again), progress.of_bytes("uploading") as show:
        try:
            batch = session.client.batches.submit(
                sys.stdin.buffer if file == "-" else file,
                model=model,
                endpoint=endpoint,
                completion_window=window,
                metadata=dict(metadata) or None,
                on_invalid=on_invalid,
                dry_run=dry_run or None,
                webhook=webhook,
                idempotency_key=idempotency_key,
                on_upload=show,
            )
        except ValueError as error:
            raise click.UsageError(str(error)) from None
    if detach:
        if as_json:
            output.document(batch.raw)
        else:
            click.echo(batch.id)
        return
    output.note(batch.id)
    with told_if_interrupted(batch_goes_on(batch, again=file != "-")):
        follow(batch)
        if not dry_run and batch.status != "failed":
            write(batch.results(), out, err)
    if as_json:
        output.document(batch.raw)
    elif dry_run and batch.estimate:
        output.document(batch.estimate)
    exit_as_it_ended(batch)


def follow(batch: Batch) -> None:
    """Wait for its end, showing how far it is."""
    with progress.of_batch() as show:
        batch.wait(on_progress=show)


def exit_as_it_ended(batch: Batch) -> None:
    """End with the code and the line that say how the batch ended; just return if all of it is well."""
    match batch.status:
        case "failed":
            raise BatchFailed(batch)
        case "cancelled":
            raise BatchCancelled(batch)
        case "expired":
            raise BatchExpired(batch)
    failed = batch.counts.get("errored", 0) + batch.counts.get("canceled", 0)
    failed += batch.counts.get("expired", 0)
    if not failed and not batch.invalid:
        return
    jobs = f"{failed:,} of {batch.total:,} jobs did not succeed"
    lines = f"{batch.invalid:,} {'line is' if batch.invalid == 1 else 'lines are'} wrong"
    said = ", ".join(([jobs] if failed else []) + ([lines] if batch.invalid else []))
    output.complain(f"{batch.id}: {said}: headrace batch errors {batch.id}")
    raise click.exceptions.Exit(_BAD_INPUT if batch.dry_run else _SOME_FAILED)


def write(results: Iterable[BatchResult], out: str | None, err: str | None) -> None:
    """A line for each result; those that did not succeed to `err`, if it is given.

    A file is there once all of it is: until then its name ends in `.part`.
    """
    with ExitStack() as files:
        good = files.enter_context(_whole(out)) if out else sys.stdout
        bad = files.enter_context(_whole(err)) if err else good
        for result in results:
            (good if result.ok else bad).write(output.jsonl(result.raw))
        good.flush()


@contextmanager
def _whole(path: str) -> Iterator[TextIO]:
    part = f"{path}.part"
    with open(part, "w", encoding="utf-8") as file:
        yield file
    os.replace(part, path)


def batch_goes_on(batch: Batch, *, again: bool = False) -> str:
    """What is said of a batch that nobody waits for any more."""
    how = ("the same command again, or " if again else "") + f"headrace batch status {batch.id} --watch"
    return f"{batch.id} goes on ({how}; or end it: headrace batch cancel {batch.id})"


def _check_apart(file: str, out: str | None, err: str | None) -> None:
    places = {"FILE": file, "-o": out, "--errors": err}
    named = [(name, os.path.realpath(path)) for name, path in places.items() if path not in (None, "-")]
    for place, (name, path) in enumerate(named):
        for other, taken in named[:place]:
            if path == taken:
                raise click.UsageError(f"{name} would overwrite {other}: give it a name of its own")
