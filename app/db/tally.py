"""Tallies: how many jobs of a batch ended how, told by the statement that ends them.

A job of the batch lane has its batch's id with its number in the last 32 bits (see `app/domain/ids.py`), so
no table is asked whose it is.
"""

from app.domain.lanes import Lane


def batch_of(job_id: str) -> str:
    """SQL for the id of the batch that a job of the batch lane belongs to."""
    return f"CAST(left(CAST({job_id} AS text), 28) || '00000000' AS uuid)"


def last_item_of(batch_id: str) -> str:
    """SQL for the highest id that a batch's job can have. The lowest is above the batch's own."""
    return f"CAST(left(CAST({batch_id} AS text), 28) || 'ffffffff' AS uuid)"


def tally(source: str) -> str:
    """A CTE that counts what ended in the CTE `source`, which has `job_id`, `lane` and `status`.

    One row a batch, and none for other lanes or for what goes round again.
    """
    return f"""tallied AS (
        INSERT INTO batch_tallies (batch_id, succeeded, failed, canceled, expired)
        SELECT {batch_of("job_id")},
               count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'failed'),
               count(*) FILTER (WHERE status = 'canceled'), count(*) FILTER (WHERE status = 'expired')
          FROM {source}
         WHERE lane = {int(Lane.BATCH)} AND status IN ('succeeded', 'failed', 'canceled', 'expired')
         GROUP BY 1
    )"""
