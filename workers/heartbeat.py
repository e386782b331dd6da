"""The two threads of a child: one says "still here", one keeps working when Redis is away."""

import threading

import structlog

from app.db import upkeep
from app.domain.lanes import queue_name
from app.errors import Unavailable
from workers.child import Child
from workers.pipeline import drain

log = structlog.get_logger()

POLL_S = 1.0


class Background:
    """Starts and stops both threads. They end with the process: neither holds anything that must be saved."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat, name="heartbeat", daemon=True),
            threading.Thread(target=self._lifeline, name="lifeline", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _beat(self) -> None:
        while True:
            try:
                self._child.heartbeat()
            except Unavailable as error:
                log.warning("heartbeat.missed", reason=str(error))
            except Exception:
                # A heartbeat that dies silently would cost every lease of this child.
                log.exception("heartbeat.failed")
            if self._stop.wait(self._child.settings.heartbeat_s):
                return

    def _lifeline(self) -> None:
        """While no bell can ring, look for work in Postgres itself."""
        while not self._stop.wait(POLL_S):
            if self._child.ringer.reachable():
                continue
            try:
                self._poll()
            except Unavailable as error:
                log.warning("lifeline.missed", reason=str(error))
            except Exception:
                log.exception("lifeline.failed")

    def _poll(self) -> None:
        for version, lane in upkeep.waiting(self._child.engine):
            if queue_name(version.spec.device, lane) not in self._child.identity.queues:
                continue
            with self._child.busy:
                drain(self._child, version, lane)
