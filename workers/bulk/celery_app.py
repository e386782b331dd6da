"""The Celery worker that keeps the books of batches: one child.

celery -A workers.bulk.celery_app worker -Q batches -c 1 -E
"""

from app.settings import Settings
from workers.boot import Worker, read_settings
from workers.bulk.clerk import Clerk
from workers.heartbeat import Background
from workers.presence import Slot


def _make(settings: Settings, slot: Slot) -> tuple[Clerk, Background]:
    clerk = Clerk.compose(settings, slot)
    return clerk, Background(clerk, clerk.ringer, clerk.bookkeep, settings.worker.heartbeat_s)


worker = Worker("clerk", read_settings("clerk"), "workers.bulk.tasks", _make)
app = worker.app
