"""`headrace tail`: a job's events as they happen."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import click

from headrace.cli import output
from headrace.cli.params import job_id, json_option
from headrace.cli.session import Session, pass_session
from headrace.cli.stopping import job_goes_on, told_if_interrupted
from headrace.events import Event


class _Show(Protocol):
    def __call__(self, event: Event) -> None: ...


@click.command()
@job_id
@json_option
@pass_session
def tail(session: Session, job_id: str, as_json: bool) -> None:
    """Follow a job until it ends, then print its output."""
    job = session.client.jobs.get(job_id)
    if as_json:
        with told_if_interrupted(job_goes_on(job.id)):
            for event in job.stream():
                output.line({"id": event.id, "event": event.type, "data": event.data})
        job.result()
        return
    with told_if_interrupted(job_goes_on(job.id)), _bar(job_id) if sys.stderr.isatty() else _lines() as show:
        for event in job.stream():
            show(event)
    output.result(job, as_json=False)


@contextmanager
def _bar(title: str) -> Iterator[_Show]:
    from rich.console import Console  # only this needs it, and it is slow to import
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        # Until something is known of its length, the bar pulses.
        task = progress.add_task(title, total=None, note="")

        def show(event: Event) -> None:
            fraction = _fraction(event)
            if fraction is not None:
                progress.update(task, total=1.0, completed=fraction)
            progress.update(task, note=_note(event))

        yield show


@contextmanager
def _lines() -> Iterator[_Show]:
    def show(event: Event) -> None:
        fraction = _fraction(event)
        percent = [] if fraction is None else [f"{fraction:.0%}"]
        click.echo(" ".join([event.type, *percent, _note(event)]).strip(), err=True)

    yield show


def _fraction(event: Event) -> float | None:
    value = event.data.get("fraction", event.data.get("progress"))
    return float(value) if isinstance(value, (int, float)) else None


def _note(event: Event) -> str:
    words = (event.data.get(name) for name in ("status_reason", "status", "message"))
    return output.clean(next((str(word) for word in words if word), ""))
