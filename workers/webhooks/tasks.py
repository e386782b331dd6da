"""The sender's one Celery task. Its result is what Flower shows: no tenant's data is in it."""

from typing import Any

from app.domain.stages import DELIVER_TASK
from workers.webhooks.celery_app import app, worker


@app.task(name=DELIVER_TASK, ignore_result=True)
def deliver_task() -> dict[str, Any]:
    """Answer a bell: send what is due for one slice. A forged or repeated bell finds nothing to do."""
    return worker.member().deliver().as_result()
