"""ingest: the lines of a validated file become jobs, a chunk in a transaction, for a slice at a time."""

from collections.abc import Iterator, Sequence
from typing import Any

from app.broker.ring import doorbell_for
from app.db import batch_items, batch_steps
from app.db import ingest as sql
from app.db.batch_work import Lease
from app.db.ingest import NewItem
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from app.intake.batch_line import Versions, WrongLine
from app.intake.lines import lines
from app.observability import logs, metrics
from workers.bulk.desk import Desk, FileGone
from workers.bulk.validate import reader

log = logs.get_logger()

FIRST_CHUNK = 200
"""Jobs of a slice's first transaction: few, so that workers start."""

CHUNK_BYTES = 8 * 1024 * 1024
"""A chunk of so much input is written, however few its jobs: a line may be megabytes, and is held here."""


def ingest(desk: Desk, lease: Lease, batch: Any) -> float:
    """See `Clerk`. Returns 0: whatever comes next, comes at once."""
    until = desk.slice_ends()
    writer = _Writer(desk, lease)
    try:
        for next_line, next_byte, items, version in _lines(desk, batch):
            if writer.add(items, version, next_line, next_byte):
                desk.check_leaving()
                if desk.clock() >= until:
                    return 0.0
        writer.flush()
    except FileGone as gone:
        batch_steps.cut_short(desk.engine, lease, gone.code, gone.message)
        return 0.0
    except WrongLine as wrong:
        log.error("bulk.line_changed", batch=str(batch.id), code=wrong.code)
        batch_steps.cut_short(desk.engine, lease, "file_changed", "a line that was valid is so no more")
        return 0.0
    if (writer.ingested is not None and writer.ingested < batch.total) or writer.ingested is None:
        log.error("bulk.file_changed", batch=str(batch.id), jobs=writer.ingested, total=batch.total)
        batch_steps.cut_short(desk.engine, lease, "file_changed", "the file has fewer lines than it had")
    return 0.0


class _Writer:
    """Collects jobs and writes them in chunks."""

    def __init__(self, desk: Desk, lease: Lease) -> None:
        self._desk = desk
        self._lease = lease
        self._items: list[NewItem] = []
        self._bytes = 0
        self._versions: dict[int, ModelVersion] = {}
        self._reached = (0, 0)
        self._chunk = min(FIRST_CHUNK, desk.settings.batches.chunk)
        self.ingested: int | None = None

    def add(self, items: Sequence[NewItem], version: ModelVersion, next_line: int, next_byte: int) -> bool:
        """A line's jobs. True if it wrote a chunk."""
        self._items += items
        self._bytes += sum(len(item.input) for item in items)
        self._versions[version.id] = version
        self._reached = next_line, next_byte
        if len(self._items) < self._chunk and self._bytes < CHUNK_BYTES:
            return False
        self.flush()
        self._chunk = self._desk.settings.batches.chunk
        return True

    def flush(self) -> None:
        """Write what is left."""
        if not self._items:
            return
        desk = self._desk
        written = sql.append(desk.engine, self._lease, self._items, *self._reached)
        self.ingested = written.ingested
        metrics.BATCHES_JOBS.inc(len(self._items))
        if written.ended is None:
            for version in self._versions.values():
                desk.ringer.ring(doorbell_for(version, Lane.BATCH, desk.settings.worker.slice_s))
        self._items, self._versions, self._bytes = [], {}, 0


def _lines(desk: Desk, batch: Any) -> Iterator[tuple[int, int, list[NewItem], ModelVersion]]:
    """From where the last chunk ended: the place after each valid line, its jobs and their version."""
    read = reader(desk, batch, Versions(desk.catalogue, batch.versions), trusted=True)
    skipped = _skipped(desk, batch)
    skip = next(skipped, None)
    chunks = desk.content(batch, batch.next_byte)
    for raw in lines(chunks, desk.settings.api.max_body_bytes, batch.next_line, batch.next_byte):
        if raw.number == skip:
            skip = next(skipped, None)
            continue
        line = read.read(raw)
        yield raw.number + 1, raw.end, line.jobs(), line.listed.version


def _skipped(desk: Desk, batch: Any) -> Iterator[int]:
    if batch.invalid:
        for wrong in batch_items.wrong_lines(desk.engine, batch.id, batch.next_line - 1):
            yield wrong.line
