"""The loop that runs the services, one scheduler at a time."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog

from app.db import upkeep
from app.db.engine import Engine
from app.errors import NoRoom, Unavailable
from app.observability import metrics

log = structlog.get_logger()

# Any fixed number; it names "periodic work of Headrace" among the advisory locks of this database.
LOCK = 0x48455344


@dataclass
class Every:
    """One service and how often it runs, in seconds."""

    name: str
    seconds: float
    run_once: Callable[[], int]
    alone: bool = True
    """Whether only the scheduler that holds the lock runs it."""
    due_at: float = field(default=0.0)


class Scheduler:
    """Runs what is due, in the given order, while it holds the lock; without it, what need not be alone."""

    def __init__(
        self,
        engine: Engine,
        services: list[Every],
        tick_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._services = services
        self._tick_s = tick_s
        self._clock = clock
        for service in services:
            metrics.SCHEDULER_FAILURES.labels(service.name)  # from 0 on: the first one is an increase

    def run(self, stop: threading.Event) -> None:
        """Until `stop` is set. Postgres being away is logged once, and waited out."""
        away = False
        while not stop.is_set():
            try:
                self.tick()
                if away:
                    log.info("scheduler.database_back")
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("scheduler.database_away", reason=str(error))
                away = True
            stop.wait(self._tick_s)

    def tick(self) -> dict[str, int]:
        """Run every service that is due. Returns name → count of what each did.

        Raises `NoRoom` once all have run if one found none: what the others do may be what makes room.
        """
        done: dict[str, int] = {}
        full: NoRoom | None = None
        with upkeep.only_one(self._engine, LOCK) as ours:
            for service in self._services:
                if (service.alone and not ours) or self._clock() < service.due_at:
                    continue
                service.due_at = self._clock() + service.seconds
                try:
                    with metrics.SCHEDULER_SECONDS.labels(service.name).time():
                        done[service.name] = service.run_once()
                except NoRoom as error:
                    full = error
                except Unavailable:
                    raise
                except Exception:
                    # One service's bug must not stop the others: a rescue is worth more than a prune.
                    metrics.SCHEDULER_FAILURES.labels(service.name).inc()
                    log.exception("scheduler.service_failed", service=service.name)
        if ours:
            metrics.SCHEDULER_ROUND.set_to_current_time()
        if full is not None:
            raise full
        return done
