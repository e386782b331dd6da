"""validate: read a batch's whole file and name everything that is wrong, before anything runs.

Nothing is written before the file was read to its end: whoever takes over begins anew.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from datetime import timedelta
from functools import partial
from itertools import chain
from typing import Any

from app.db import batch_steps, batch_work
from app.db.batch_steps import Row
from app.db.batch_work import Lease
from app.intake.batch_line import LineReader, Versions, WrongLine
from app.intake.batch_results import wrong_line
from app.intake.lines import lines
from app.intake.media import check_files
from app.observability import logs
from workers.bulk import write
from workers.bulk.desk import Desk, FileGone
from workers.bulk.spill import Spill

log = logs.get_logger()

LOOK_S = 1.0
"""How often a long validation looks whether it is still wanted."""


class Unwanted(Exception):
    """The batch was cancelled meanwhile."""


class _Findings:
    """What reading the file found."""

    def __init__(self) -> None:
        self.wrong = Spill()
        self.total = 0
        self.models: Counter[tuple[str, int]] = Counter()
        self.refused: tuple[str, str] | None = None
        """What is wrong with the file as a whole: code and message."""


def validate(desk: Desk, lease: Lease, batch: Any) -> float | None:
    """See `Clerk`: seconds until the batch is due again, or None if it is at its end."""
    found, versions = _Findings(), Versions(desk.catalogue)
    with closing(found.wrong):
        try:
            _read(desk, batch, versions, found)
        except Unwanted:
            return 0.0
        log.info("bulk.validated", batch=str(batch.id), jobs=found.total, wrong=found.wrong.count)
        return _decide(desk, lease, batch, versions, found)


def reader(desk: Desk, batch: Any, versions: Versions, *, trusted: bool) -> LineReader:
    """What reads the batch's lines. `trusted`: they were validated."""
    api = desk.settings.api
    return LineReader(
        batch.endpoint,
        versions,
        desk.egress,
        max_bytes=api.max_body_bytes,
        max_depth=api.max_json_depth,
        trusted=trusted,
        check_files=partial(check_files, desk.engine, batch.tenant_id),
    )


def _read(desk: Desk, batch: Any, versions: Versions, found: _Findings) -> None:
    read = reader(desk, batch, versions, trusted=False)
    most = desk.settings.batches.max_lines
    seen = 0
    try:
        chunks = _watched(desk, batch, desk.content(batch))
        for raw in lines(chunks, desk.settings.api.max_body_bytes):
            try:
                line = read.read(raw)
            except WrongLine as wrong:
                found.wrong.add(raw.number, wrong, found.total)
                seen += 1
            else:
                count = len(line.inputs)
                seen += count
                found.total += count
                found.models[line.listed.label, line.listed.version.id] += count
            if seen > most:
                found.refused = "too_many_lines", f"the file has more than {most} lines (or texts to embed)"
                return
    except FileGone as gone:
        found.refused = gone.code, gone.message
        return
    if not seen:
        found.refused = "empty_file", "the file has no lines"


def _watched(desk: Desk, batch: Any, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks, while anybody wants them."""
    look_at = desk.clock() + LOOK_S
    for chunk in chunks:
        yield chunk
        desk.check_leaving()
        if desk.clock() >= look_at:
            if batch_work.read(desk.engine, batch.id).status != batch.status:
                raise Unwanted
            look_at = desk.clock() + LOOK_S


def _decide(desk: Desk, lease: Lease, batch: Any, versions: Versions, found: _Findings) -> float | None:
    invalid = found.wrong.count
    if found.refused is None and not batch.dry_run and (batch.on_invalid == "skip" or not invalid):
        batch_steps.validated(desk.engine, lease, found.total, invalid, versions.current, found.wrong.rows())
        return 0.0
    status, estimate, errors = "failed", None, found.wrong.rows()
    if found.refused is not None:
        errors = chain([_of_file(*found.refused)], errors)
    elif batch.dry_run:
        status, estimate = "completed", _estimate(desk, batch, found)
    with write.Files(desk, batch) as written:
        for wrong in found.wrong:
            written.error(wrong_line(wrong))
        written.end(lease, status, invalid=invalid, estimate=estimate, errors=errors)
    return None


def _of_file(code: str, message: str) -> Row:
    return 0, code, message, None, None, 0


def _estimate(desk: Desk, batch: Any, found: _Findings) -> dict[str, Any]:
    since = batch.now - timedelta(hours=1)
    seconds: float | None = 0.0
    for (_, version_id), count in found.models.items():
        each = batch_steps.seconds_an_item(desk.engine, version_id, since)
        seconds = None if each is None or seconds is None else seconds + each * count
    return {
        "valid": found.total,
        "invalid": found.wrong.count,
        "models": {label: count for (label, _), count in found.models.items()},
        "seconds": None if seconds is None else round(seconds, 6),
    }
