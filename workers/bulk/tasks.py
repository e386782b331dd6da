"""The clerk's one Celery task. Its result is what Flower shows: no tenant's data is in it."""

from typing import Any

from app.domain.stages import BOOKKEEP_TASK
from workers.bulk.celery_app import app, worker


@app.task(name=BOOKKEEP_TASK, ignore_result=True)
def bookkeep_task() -> dict[str, Any]:
    """Answer a bell: get on with what is due for one slice. A forged or repeated bell finds nothing to do."""
    return worker.member().bookkeep().as_result()
