"""How far something is: a bar on a terminal, a line now and then elsewhere. All of it on stderr."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from headrace.batch import Batch
from headrace.cli import output

_STEPS = 10


@contextmanager
def of_bytes(what: str) -> Iterator[Callable[[int, int], None]]:
    """To be called with the bytes that were moved and all there are. Shown on a terminal only."""
    if not sys.stderr.isatty():
        yield lambda _moved, _size: None
        return
    from rich.progress import DownloadColumn, TransferSpeedColumn

    with _bar(DownloadColumn(), TransferSpeedColumn()) as progress:
        task = progress.add_task(what, total=None)
        yield lambda moved, size: progress.update(task, completed=moved, total=size)


@contextmanager
def of_batch() -> Iterator[Callable[[Batch], None]]:
    """To be called with the batch whenever something new is known of it."""
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.progress import TextColumn

    with _bar(TextColumn("{task.fields[note]}", markup=False)) as progress:
        # Until its file is validated, nobody knows how long it is, and the bar pulses.
        task = progress.add_task("", total=None, note="")

        def show(batch: Batch) -> None:
            fraction = batch.progress.get("fraction") if batch.total or batch.done else None
            total = None if fraction is None else 1.0
            progress.update(task, description=batch.status, note=note(batch), total=total, completed=fraction)

        yield show


def note(batch: Batch) -> str:
    """`1,236/5,000 done, 2 failed, 64 running, 3,700 queued, 812/s, 5 s left`."""
    counts = batch.counts
    failed = counts.get("errored", 0) + counts.get("canceled", 0) + counts.get("expired", 0)
    done = counts.get("succeeded", 0) + failed
    words = [f"{done:,}/{batch.total:,} done"] if batch.total else []
    numbers = {
        "wrong": batch.invalid,
        "failed": failed,
        "running": counts.get("running", 0),
        "queued": counts.get("queued", 0),
    }
    words += [f"{number:,} {name}" for name, number in numbers.items() if number]
    if rate := batch.progress.get("rate_per_s"):
        words.append(f"{rate:,.0f}/s" if rate >= 10 else f"{rate:.1f}/s")
    eta = batch.progress.get("eta_s")
    if eta is not None:
        words.append(f"{duration(eta)} left")
    if cost := _cost(batch):
        words.append(cost)
    return ", ".join(words)


def duration(seconds: float) -> str:
    """`8 s`, `2:05` or `3:07:00`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Lines:
    """A line whenever the status changed, or another tenth is done."""

    def __init__(self) -> None:
        self._said: tuple[str, int] | None = None

    def __call__(self, batch: Batch) -> None:
        fraction = batch.progress.get("fraction") or 0.0
        now = (batch.status, int(fraction * _STEPS))
        if now == self._said:
            return
        self._said = now
        click.echo(f"{output.clean(batch.status)} {fraction:.0%} {note(batch)}".rstrip(), err=True)


@contextmanager
def _bar(*after: Any) -> Iterator[Any]:
    from rich.console import Console  # only this needs it, and it is slow to import
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn())
    bar = Progress(*columns, *after, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    with bar as progress:
        yield progress


def _cost(batch: Batch) -> str | None:
    """What it has cost so far, where the server knows."""
    cost = batch.raw.get("cost")
    if not isinstance(cost, dict) or cost.get("amount") is None:
        return None
    return output.clean(f"{cost['amount']} {cost.get('currency') or ''}")
