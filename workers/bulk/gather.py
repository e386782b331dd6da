"""gather: the input file of a batch that runs again what did not succeed of another one."""

from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from typing import Any

import orjson

from app.db import batch_items, batch_steps, batch_work
from app.db.batch_work import Lease
from app.domain.ids import format_id
from app.domain.lanes import Priority
from app.domain.states import JobStatus
from app.intake.batch_line import EMBEDDINGS
from app.intake.file_request import Purpose
from app.intake.upload import uploading
from app.intake.view import BATCH
from workers.bulk.desk import Desk

LOOK_EVERY = 500


def gather(desk: Desk, lease: Lease, batch: Any) -> None:
    """Write the file, and make it the batch's. Whoever takes over before that writes it anew."""
    old = batch_work.find(desk.engine, batch.retry_of)
    with uploading(desk.engine, desk.storage, batch.tenant_id) as upload:
        # What is past its retention leaves an empty file, which is no batch.
        for number, line in enumerate(_lines(desk, old) if old is not None else ()):
            upload.write(line)
            if number % LOOK_EVERY == 0:
                desk.check_leaving()
        name = f"{format_id(BATCH, batch.id)}_input.jsonl"
        new = upload.finish(Purpose.BATCH, name, batch_id=batch.id)
        batch_steps.gathered(desk.engine, lease, new)
        upload.was_kept(Purpose.BATCH)


def _lines(desk: Desk, old: Any) -> Iterator[bytes]:
    for custom_id, group in groupby(batch_items.requests(desk.engine, old), attrgetter("custom_id")):
        rows = list(group)
        # What was erased can't be run again.
        if all(row.status == JobStatus.SUCCEEDED for row in rows) or any(row.input is None for row in rows):
            continue
        body = _embeddings(rows) if old.endpoint == EMBEDDINGS else _job(rows[0])
        line = {"custom_id": custom_id, "method": "POST", "url": old.endpoint, "body": body}
        yield orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)


def _embeddings(rows: list[Any]) -> dict[str, Any]:
    texts = [orjson.loads(row.input)["text"] for row in rows]
    first = rows[0]
    return {
        "model": f"{first.model}@{first.version}",
        "input": texts if len(texts) > 1 else texts[0],
        "encoding_format": first.encoding,
    }


def _job(row: Any) -> dict[str, Any]:
    policy = {}
    if row.queue_ttl_s is not None:
        policy["queue_ttl_s"] = row.queue_ttl_s
    if row.execution_timeout_s < row.most_execution_s:
        policy["execution_timeout_s"] = row.execution_timeout_s
    body = {
        "model": row.model,
        "version": row.version,
        "input": orjson.Fragment(row.input),
        "priority": Priority(row.priority).label,
        "retry": {
            "max_attempts": row.max_attempts,
            "initial_delay_ms": row.initial_delay_ms,
            "max_delay_ms": row.max_delay_ms,
        },
        "policy": policy or None,
        "webhook": row.webhook,
        "webhook_events_filter": row.webhook_events if row.webhook else None,
        "use_case": row.use_case,
        "metadata": row.metadata or None,
    }
    return {name: value for name, value in body.items() if value is not None}
