"""cancel: what waits ends now, what runs is asked to, and what is not in the queue yet is made as ended."""

from typing import Any

from app.db import batch_steps
from app.db import cancel as sql
from app.db.batch_work import Lease
from app.domain.ids import MOST_ITEMS, item_uuid
from workers.bulk import write
from workers.bulk.desk import Desk

CHUNK = 2000


def cancel(desk: Desk, lease: Lease, batch: Any) -> None:
    """End the batch's jobs that wait, and ask those that run. Done again until all have ended."""
    above, last = batch.id, item_uuid(batch.id, MOST_ITEMS)
    while True:
        desk.check_leaving()
        ended = batch_steps.under(
            desk.engine, lease, lambda connection, _: sql.cancel_range(connection, above, last, CHUNK)
        )
        desk.notifier.changed(ended)
        if len(ended) < CHUNK:
            break
    batch_steps.under(desk.engine, lease, lambda connection, _: sql.ask_range(connection, above, last))


def drop(desk: Desk, lease: Lease, batch: Any) -> None:
    """End a batch that was cancelled before its file was validated: it has no jobs."""
    with write.Files(desk, batch) as written:
        written.end(lease, "cancelled")
