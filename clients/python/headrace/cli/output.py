"""What is printed. For people: short, coloured on a terminal only. For programs: JSON, whole.

Results go to stdout and everything about them to stderr, so that a pipe gets the result alone.
"""

import json
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

import click

from headrace.job import Job
from headrace.record import Record

Listed = TypeVar("Listed", bound=Record)

_COLOURS = {
    "queued": "yellow",
    "running": "cyan",
    "succeeded": "green",
    "ready": "green",
    "delivered": "green",
    "enabled": "green",
    "pending": "yellow",
    "sending": "cyan",
    "completed": "green",
    "validating": "yellow",
    "in_progress": "cyan",
    "finalizing": "cyan",
    "cancelling": "yellow",
    "failed": "red",
    "dead": "red",
    "disabled": "red",
}
_LONGEST_LIST, _LONGEST_TEXT = 8, 400
# Legal in JSON, but some terminals obey the first, the second turn text around, and a lone surrogate
# can't be printed at all.
_UNSAFE = re.compile("[\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# A pipe has no edge: nothing is cut off there.
_PIPE_WIDTH = 10_000


def complain(message: str) -> None:
    """One line on stderr."""
    click.echo(f"{click.style('headrace:', fg='red')} {message}", err=True)


def note(message: str) -> None:
    """A hint for whoever sits at the terminal; scripts don't see it."""
    if sys.stderr.isatty():
        click.secho(message, err=True, dim=True)


def document(value: Any) -> None:
    """Exactly one JSON document, over several lines only for eyes."""
    click.echo(_dump(value, indent=2 if sys.stdout.isatty() else None))


def line(value: Any) -> None:
    """One line of JSONL."""
    click.echo(_dump(value))


def jsonl(value: Any) -> str:
    """The same, with its end, for a file."""
    return _dump(value) + "\n"


def result(job: Job, as_json: bool) -> None:
    """An ended job: its output, or the `JobError` that says why there is none."""
    if as_json:
        document(job.raw)
    output = job.result()
    if as_json:
        return
    if sys.stdout.isatty():
        output = _shortened(output)
    document(output)
    took = job.metrics.get("total_time")
    note(f"{job.id} {job.status}" + (f" in {took:.3g} s" if took is not None else ""))


def details(record: Record, as_json: bool, besides: Sequence[str] = ()) -> None:
    """Everything about one thing; what is in `besides` is for programs only."""
    if as_json:
        document(record.raw)
        return
    rows = [
        (name, value if isinstance(value, str) else _dump(_shortened(value)))
        for name, value in record.raw.items()
        if value not in (None, {}, []) and name not in ("object", "urls", *besides)
    ]
    width = max(len(name) for name, _ in rows)
    for name, value in rows:
        label = click.style(name.ljust(width), dim=True)
        click.echo(f"{label}  {click.style(clean(value), fg=_COLOURS.get(value))}")


def listing(
    found: Iterable[Listed],
    limit: int,
    as_json: bool,
    columns: Sequence[str],
    row: Callable[[Listed], Sequence[str | None]],
) -> None:
    """A list, newest first: a table, and after which id it goes on; or a line of JSON for each item."""
    if as_json:
        for one in found:
            line(one.raw)
        return
    shown = list(found)
    table(columns, [row(one) for one in shown])
    if len(shown) == limit:
        note(f"more: --after {clean(shown[-1].id)}")


def table(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    """A table without lines, as wide as the terminal allows. An id is never cut."""
    from rich.console import Console  # takes longer to import than most commands take to run
    from rich.table import Table
    from rich.text import Text

    grid = Table(box=None, pad_edge=False, header_style="dim")
    for place, column in enumerate(columns):
        longest = max((len(row[place] or "") for row in rows), default=0)
        grid.add_column(column, no_wrap=True, min_width=longest if column == "ID" else None)
    for row in rows:
        cells = ["-" if cell is None else clean(cell) for cell in row]
        grid.add_row(*(Text(cell, style=_COLOURS.get(cell, "")) for cell in cells))
    Console(width=None if sys.stdout.isatty() else _PIPE_WIDTH).print(grid)


def ago(moment: datetime | None) -> str | None:
    """`12 s ago`."""
    if moment is None:
        return None
    seconds = max(0.0, (datetime.now(UTC) - moment).total_seconds())
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def local(moment: datetime | None) -> str | None:
    """A moment to the second, by this machine's clock on the wall."""
    return None if moment is None else f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def clean(text: str) -> str:
    """On one line and harmless: what others wrote must not steer this terminal."""
    words = " ".join(text.split())
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)


def _dump(value: Any, indent: int | None = None) -> str:
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return _UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def _shortened(value: Any) -> Any:
    """A copy in which long lists and texts are cut, with a word on what is missing."""
    if isinstance(value, dict):
        return {key: _shortened(item) for key, item in value.items()}
    if isinstance(value, list):
        kept = [_shortened(item) for item in value[:_LONGEST_LIST]]
        missing = len(value) - len(kept)
        return [*kept, f"… {missing} more"] if missing else kept
    if isinstance(value, str) and len(value) > _LONGEST_TEXT:
        return f"{value[:_LONGEST_TEXT]}… {len(value) - _LONGEST_TEXT} more characters"
    return value
