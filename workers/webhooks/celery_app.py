"""The Celery worker that sends webhooks: one child, many deliveries at a time.

celery -A workers.webhooks.celery_app worker -Q webhooks -c 1 -E
"""

from app.settings import Settings
from workers.boot import Worker, read_settings
from workers.heartbeat import Background
from workers.presence import Slot
from workers.webhooks.sender import Sender


def _make(settings: Settings, slot: Slot) -> tuple[Sender, Background]:
    sender = Sender.compose(settings, slot)
    return sender, Background(sender, sender.ringer, sender.deliver, settings.worker.heartbeat_s)


worker = Worker("sender", read_settings("sender"), "workers.webhooks.tasks", _make)
app = worker.app
