"""The Celery worker that runs models: one child per device slot.

celery -A workers.celery_app worker -Q cpu.interactive -c 2 -E
"""

import threading
from functools import partial

from app.settings import Settings
from workers import watchdog
from workers.boot import Worker, read_settings
from workers.child import Child
from workers.heartbeat import Background
from workers.leaving import Leaving
from workers.pipeline import drain_all
from workers.presence import Slot
from workers.runners import memory


def _make(settings: Settings, slot: Slot) -> tuple[Child, Background]:
    memory.limit(settings.worker.memory_limit_mb)
    child = Child.compose(settings, slot)
    watchdog.watch(child.lease)
    work = partial(drain_all, child)
    if settings.worker.preload:
        # In a thread, since Celery gives up on a child that is not up within seconds. Drains wait for it.
        holding = threading.Event()
        threading.Thread(target=child.preload, args=[holding], name="preload", daemon=True).start()
        holding.wait()
    return child, Background(child, child.ringer, work, settings.worker.heartbeat_s, Leaving(child).step)


worker = Worker("worker", read_settings("worker"), "workers.tasks", _make)
app = worker.app
