"""Every table. A job's state is the table its row is in (see `app/domain/states.py`).

No foreign keys among the hot tables: a move is one statement, and conservation is proven by
`app/db/conservation.py` rather than enforced on every row.
"""

from app.db.tables import batches, files, jobs, models, tenants, webhooks, workers
from app.db.tables.common import metadata

__all__ = ["PARTITIONED", "batches", "files", "jobs", "metadata", "models", "tenants", "webhooks", "workers"]

PARTITIONED = (
    jobs.jobs,
    jobs.job_results,
    jobs.job_attempts,
    webhooks.webhook_deliveries,
    webhooks.webhook_results,
    webhooks.webhook_attempts,
)
