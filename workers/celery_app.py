"""The Celery worker: prefork, one child per device slot; everything heavy happens in the child.

celery -A workers.celery_app worker -Q cpu.interactive -c 2 -E
"""

import os
import sys
from typing import Any

from celery import signals

from app.broker.celery import make_celery
from app.db.engine import connect, make_engine
from app.errors import SettingsError, Unavailable
from app.observability import logs, metrics
from app.settings import load
from workers.child import Child
from workers.drainflag import DrainFlag
from workers.heartbeat import Background

try:
    settings = load()
except SettingsError as error:
    sys.exit("\n".join(["headrace worker: settings are wrong:", *error.problems]))

app = make_celery(settings.redis_url)
app.conf.include = ["workers.tasks"]

flag = DrainFlag()


class _Parent:
    """What the parent knows and its children inherit by the fork."""

    name = "worker"
    concurrency = 1


class _Running:
    """This process's child, if it is one."""

    child: Child | None = None
    background: Background | None = None


def current_child() -> Child:
    """The child that this process is. Only tasks call it, and they run in children only."""
    assert _Running.child is not None, "no child: was this called outside a worker process?"
    return _Running.child


@signals.setup_logging.connect
def _configure_logging(**_: Any) -> None:
    logs.configure(settings)


@signals.worker_shutting_down.connect
def _enter_drain(**_: Any) -> None:
    # In the parent: the children see it at their next micro-batch border.
    flag.set()


@signals.worker_process_init.connect
def _start_child(**_: Any) -> None:
    from billiard import process

    logs.configure(settings)
    child = Child.start(
        settings,
        name=_Parent.name,
        queues=tuple(sorted(app.amqp.queues.consume_from)),
        slot=getattr(process.current_process(), "index", 0) or 0,
        children=_Parent.concurrency,
        flag=flag,
    )
    _Running.child = child
    _Running.background = Background(child)
    _Running.background.start()


@signals.worker_process_shutdown.connect
def _stop_child(pid: int | None = None, **_: Any) -> None:
    metrics.forget_process(pid or os.getpid())
    if _Running.background is not None:
        _Running.background.stop()
    if _Running.child is not None:
        _Running.child.stop()


@signals.celeryd_init.connect
def _check_services(sender: Any = None, options: dict[str, Any] | None = None, **_: Any) -> None:
    """In the parent, before anything is forked: missing services are one clear line, not a traceback."""
    _Parent.name = str(sender or "worker")
    _Parent.concurrency = int((options or {}).get("concurrency") or 1)
    engine = make_engine(settings.database_url)
    try:
        with connect(engine):
            pass
    except Unavailable as error:
        sys.exit(f"headrace worker: {error}")
    finally:
        engine.dispose()
