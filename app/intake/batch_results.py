"""What became of a batch's jobs so far, a line each, in the order of its file."""

from collections.abc import Iterator
from typing import Any

import orjson

from app.db import results as sql
from app.db.engine import Engine
from app.domain.ids import MOST_ITEMS, format_id, item_uuid
from app.domain.states import JobStatus
from app.intake.view import JOB

_AT_A_TIME = 500


def stream(engine: Engine, row: Any) -> Iterator[bytes]:
    """JSONL: a line for each job of the batch that has ended, some lines at a time.

    Reads as it goes, so what ends meanwhile may be in it. Raises `Unavailable`, half-way too.
    """
    after, last = row.id, item_uuid(row.id, MOST_ITEMS)
    while page := sql.of_range(engine, after, last, _AT_A_TIME):
        yield b"".join(map(_line, page))
        after = page[-1].job_id


def _line(row: Any) -> bytes:
    name = format_id(JOB, row.job_id)
    response = error = None
    if row.status == JobStatus.SUCCEEDED:
        response = {"status_code": 200, "request_id": name, "body": row.output}
    else:
        error = row.error or {"code": row.status, "message": f"the job is {row.status}"}
    return orjson.dumps(
        {"id": name, "custom_id": row.custom_id, "response": response, "error": error},
        option=orjson.OPT_APPEND_NEWLINE,
    )
