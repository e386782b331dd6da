"""A Celery worker of ours: prefork, everything heavy made in the child, after the fork.

Its parent holds no connection that a fork could break, and no thread but the spot agent's, which takes no
lock that a child needs; a child is a `Member`.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

from celery import Celery, signals

from app.broker.celery import make_celery
from app.db.engine import connect, make_engine
from app.errors import SettingsError, Unavailable
from app.observability import bugs, exporter, logs, metrics, tracing
from app.settings import Settings, load
from workers.drainflag import DrainFlag
from workers.heartbeat import Background
from workers.presence import Slot
from workers.runners.learned import LearnedCaps
from workers.siblings import Siblings
from workers.spot.agent import Agent
from workers.spot.providers import choose


class Member(Protocol):
    """What runs in a child."""

    def stop(self) -> None:
        """Say goodbye: the process ends after it."""


Kind = TypeVar("Kind", bound=Member)


def read_settings(program: str) -> Settings:
    """The settings, or the end of the process with a line for everything that is wrong."""
    try:
        return load()
    except SettingsError as error:
        sys.exit("\n".join([f"headrace {program}: settings are wrong:", *error.problems]))


class Worker(Generic[Kind]):
    """Ties a kind of member to Celery's life cycle. One per process: Celery's signals are global."""

    def __init__(
        self,
        program: str,
        settings: Settings,
        tasks: str,
        make: Callable[[Settings, Slot], tuple[Kind, Background]],
    ) -> None:
        """`make` is called in the child and connects to nothing yet: Postgres may be away at this moment."""
        self.app: Celery = make_celery(settings.redis_url)
        self.app.conf.include = [tasks]
        self._program = program
        self._settings = settings
        self._make = make
        self._flag = DrainFlag()
        self._siblings = Siblings()
        self._learned = LearnedCaps()
        # What the parent knows and its children inherit by the fork.
        self._name = program
        self._children = 1
        self._parent = 0
        self._consumer: Any = None
        self._agent: Agent | None = None
        self._member: Kind | None = None
        self._background: Background | None = None
        signals.setup_logging.connect(self._configure_logging, weak=False)
        signals.celeryd_init.connect(self._check_services, weak=False)
        signals.worker_ready.connect(self._note_ready, weak=False)
        signals.worker_shutting_down.connect(self._enter_drain, weak=False)
        signals.worker_shutdown.connect(self._stop_agent, weak=False)
        signals.worker_process_init.connect(self._start_child, weak=False)
        signals.worker_process_shutdown.connect(self._stop_child, weak=False)

    def member(self) -> Kind:
        """What this child is. Only tasks call it, and they run in children only."""
        assert self._member is not None, "no child: was this called outside a worker process?"
        return self._member

    def _configure_logging(self, **_: Any) -> None:
        logs.configure(self._settings)

    def _check_services(
        self, sender: Any = None, instance: Any = None, options: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """In the parent, before anything is forked: missing services are one clear line, no traceback."""
        # Celery's banner is no line of our log, and where it can't be written Celery ends.
        if instance is not None:
            instance.quiet = True
        self._name = str(sender or self._program)
        self._parent = os.getpid()
        self._children = int((options or {}).get("concurrency") or 1)
        engine = make_engine(self._settings.database_url)
        try:
            with connect(engine):
                pass
        except Unavailable as error:
            sys.exit(f"headrace {self._program}: {error}")
        finally:
            engine.dispose()
        logs.configure(self._settings)
        self._start_agent()

    def _start_agent(self) -> None:
        spot = self._settings.spot
        if (provider := choose(self._settings)) is not None:
            self._agent = Agent(
                provider,
                self._flag,
                self._end,
                self._hear_no_more,
                cordons=spot.rebalance == "cordon",
                poll_s=spot.poll_s,
            )
            self._agent.start()

    def _end(self) -> bool:
        """End this worker as whoever runs it would. Not before Celery can be asked to."""
        if self._consumer is None:
            return False
        self._flag.by_ourselves()
        os.kill(self._parent, signal.SIGTERM)
        return True

    def _hear_no_more(self) -> bool:
        """Leave all bells to others, while this worker stays without claiming anything."""
        if self._consumer is None:
            return False
        for queue in list(self.app.amqp.queues.consume_from):
            # In Celery's own thread, at its next turn.
            self._consumer.call_soon(self._consumer.cancel_task_queue, queue)
        return True

    def _note_ready(self, sender: Any = None, **_: Any) -> None:
        self._consumer = sender

    def _stop_agent(self, **_: Any) -> None:
        if self._agent is not None:
            self._agent.stop()

    def _enter_drain(self, **_: Any) -> None:
        # In the parent, in a handler of a Unix signal: the children see it in a moment.
        self._flag.terminated(self._settings.worker.drain_s)

    def _start_child(self, **_: Any) -> None:
        from billiard import process

        logs.configure(self._settings)
        tracing.configure(self._settings, self._program)
        slot = Slot(
            name=self._name,
            queues=tuple(sorted(self.app.amqp.queues.consume_from)),
            number=getattr(process.current_process(), "index", 0) or 0,
            children=self._children,
            flag=self._flag,
            siblings=self._siblings,
            learned=self._learned,
            parent=self._parent,
        )
        if slot.number == 0:
            # Not the parent: it forks, so it has no threads. The first child is always one of these.
            exporter.export(self._settings.metrics_bind)
        self._member, self._background = self._make(self._settings, slot)
        self._background.start()

    def _stop_child(self, pid: int | None = None, **_: Any) -> None:
        metrics.forget_process(pid or os.getpid())
        if self._background is not None:
            self._background.stop()
        if self._member is not None:
            self._member.stop()
        tracing.shutdown()
        bugs.shutdown()
