"""The one Celery task. Its arguments and its result are what Flower shows: no tenant's data is in them."""

from typing import Any

from app.domain.lanes import parse_queue
from app.domain.stages import DRAIN_TASK
from workers.celery_app import app, worker
from workers.pipeline import drain


@app.task(name=DRAIN_TASK, ignore_result=True)
def drain_task(*, model: str, version: str, version_id: int, queue: str) -> dict[str, Any]:
    """Answer a doorbell: work off this version's ready jobs for one slice.

    A forged, repeated or outdated bell finds nothing to claim and does nothing.
    """
    child = worker.member()
    _, lane = parse_queue(queue)
    found = child.version(version_id)
    if found is None:
        return {"model": model, "version": version, "queue": queue, "jobs": 0, "ended": "unknown_version"}
    with child.busy:
        report = drain(child, found, lane)
    return report.as_result()
