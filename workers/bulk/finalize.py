"""finalize: once all of a batch's jobs have ended, write its output and error files, and end it.

The files and the end are one transaction: whoever takes over from a clerk that died writes both anew.
"""

from typing import Any

from app.db import batch_steps, batch_work
from app.db.batch_work import Lease
from app.intake.batch_results import ended_lines
from workers.bulk import write
from workers.bulk.desk import Desk

LOOK_EVERY = 500


def finalize(desk: Desk, lease: Lease, batch: Any) -> None:
    """Write both files side by side, in the order of the input."""
    batch_steps.finalizing(desk.engine, lease)
    counts = batch_work.counts(desk.engine, batch.id)
    if batch_steps.was_cut_short(desk.engine, batch.id):
        status = "failed"
    else:
        status = "expired" if counts.expired else "completed"
    with write.Files(desk, batch) as written:
        for number, (succeeded, line) in enumerate(ended_lines(desk.engine, batch)):
            (written.output if succeeded else written.error)(line)
            if number % LOOK_EVERY == 0:
                desk.check_leaving()
        written.end(lease, status)
