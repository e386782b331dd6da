"""What came of a batch's lines, as lines of JSON in the order of its file.

Outputs are spliced in as the text that they are stored as: nothing is parsed to be written again.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from operator import attrgetter
from typing import Any
from uuid import UUID

import orjson

from app.db import batch_items
from app.db.engine import Engine
from app.domain.ids import format_id
from app.domain.states import JobStatus
from app.intake import embedding_view
from app.intake.batch_line import EMBEDDINGS
from app.intake.view import JOB

_PREFIX = "batch_req"
_OPTIONS = orjson.OPT_UTC_Z | orjson.OPT_APPEND_NEWLINE
_CHUNK = 64 * 1024
_EMBEDDING, _EMBEDDING_END = '{"embedding":[', "]}"


def stream(engine: Engine, batch: Any) -> Iterator[bytes]:
    """The lines of all items that ended so far, those that failed and wrong lines among them, in chunks."""
    held: list[bytes] = []
    size = 0
    for _, line in ended_lines(engine, batch):
        held.append(line)
        size += len(line)
        if size >= _CHUNK:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def ended_lines(engine: Engine, batch: Any) -> Iterator[tuple[bool, bytes]]:
    """Each line that ended, and whether it succeeded. Lines of the file whose jobs still run are left out."""
    rows = batch_items.items(engine, batch.id)
    groups: Iterable[Sequence[Any]]
    if batch.endpoint == EMBEDDINGS:
        groups = (list(group) for _, group in groupby(rows, attrgetter("custom_id")))
        render = _embeddings
    else:
        groups = ([row] for row in rows)
        render = _job
    cancelled = batch.cancelling_at is not None
    wrong = batch_items.wrong_lines(engine, batch.id) if batch.invalid else iter(())
    next_wrong = next(wrong, None)
    for group in groups:
        number = group[0].id.int - batch.id.int
        while next_wrong is not None and next_wrong.after < number:
            yield False, wrong_line(next_wrong)
            next_wrong = next(wrong, None)
        if all(row.status for row in group):
            failed = next((row for row in group if row.status != JobStatus.SUCCEEDED), None)
            if failed is None:
                yield render(group)
            else:
                yield False, _failed(group[0].id, failed, cancelled)
    while next_wrong is not None:
        yield False, wrong_line(next_wrong)
        next_wrong = next(wrong, None)


def wrong_line(wrong: Any) -> bytes:
    """The line of an error file that says what is wrong with a line of the input file."""
    error = {"code": wrong.code, "message": wrong.message, "line": wrong.line, "param": wrong.param}
    return orjson.dumps(
        {"id": None, "custom_id": wrong.custom_id, "response": None, "error": error}, option=_OPTIONS
    )


def _job(rows: Sequence[Any]) -> tuple[bool, bytes]:
    (row,) = rows
    created, started, completed = row.created_at, row.started_at, row.completed_at
    body = {
        "id": format_id(JOB, row.id),
        "object": "job",
        "model": row.model,
        "version": row.version,
        "status": row.status,
        "output": None if row.output is None else orjson.Fragment(row.output),
        "error": None,
        "metrics": {
            "queue_time": _seconds(created, started),
            "run_time": _round(row.run_s),
            "total_time": _seconds(created, completed),
            "batch_size": row.batch_size,
        },
        "usage": {
            "units": row.units,
            "unit": row.unit,
            "device": row.device,
            "device_seconds": _round(row.device_s),
        },
        "metadata": row.metadata,
        "created_at": created,
        "started_at": started,
        "completed_at": completed,
    }
    return True, _answered(row, body)


def _embeddings(rows: Sequence[Any]) -> tuple[bool, bytes]:
    try:
        vectors = [_vector(row) for row in rows]
    except ValueError as error:
        return False, _error_line(rows[0].id, rows[0].custom_id, "invalid_output", str(error))
    tokens = sum(row.units or 0 for row in rows)
    return True, _answered(rows[0], embedding_view.answer(rows[0].model, vectors, tokens))


def _vector(row: Any) -> bytes:
    text = row.output or "null"
    # An output that is nothing but its numbers needs no reading.
    if row.encoding != "base64" and text.startswith(_EMBEDDING) and text.find("]") == len(text) - 2:
        return bytes(text[len(_EMBEDDING) - 1 : -1], "ascii")
    return embedding_view.vector(orjson.loads(text), row.encoding or "float")


def _answered(row: Any, body: dict[str, Any]) -> bytes:
    return orjson.dumps(
        {
            "id": format_id(_PREFIX, row.id),
            "custom_id": row.custom_id,
            "response": {"status_code": 200, "request_id": format_id(JOB, row.id), "body": body},
            "error": None,
        },
        option=_OPTIONS,
    )


def _failed(job_id: UUID, row: Any, cancelled: bool) -> bytes:
    match JobStatus(row.status):
        case JobStatus.FAILED:
            error = orjson.loads(row.error)
            code, message = error["code"], error["message"]
        case JobStatus.EXPIRED:
            code, message = "batch_expired", "it was not begun before its time was over"
        case _ if cancelled:
            code, message = "batch_cancelled", "the batch was cancelled before it ended"
        case _:
            code, message = "job_canceled", "the job was canceled"
    return _error_line(job_id, row.custom_id, code, message)


def _error_line(job_id: UUID, custom_id: str, code: str, message: str) -> bytes:
    line = {
        "id": format_id(_PREFIX, job_id),
        "custom_id": custom_id,
        "response": None,
        "error": {"code": code, "message": message},
    }
    return orjson.dumps(line, option=_OPTIONS)


def _seconds(start: Any, end: Any) -> float | None:
    if start is None or end is None:
        return None
    return max(0.0, round((end - start).total_seconds(), 6))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
