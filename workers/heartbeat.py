"""The threads of a worker process: one says "still here", one works while Redis is away, one leaves."""

import threading
from collections.abc import Callable

import structlog

from app.broker.ring import Ringer
from app.errors import Unavailable
from workers.presence import Presence

log = structlog.get_logger()

POLL_S = 1.0
RETRY_S = 1.0
LOOK_S = 0.2
"""How soon a child notices that its worker is draining."""


class Background:
    """Starts and stops the threads. They end with the process: none holds anything that must be saved.

    `work` does what the bells would have asked for. `leave` is called again and again while the worker is
    draining; as long as nobody says more, it tells the row in `workers`.
    """

    def __init__(
        self,
        presence: Presence,
        ringer: Ringer,
        work: Callable[[], object],
        heartbeat_s: float,
        leave: Callable[[], object] | None = None,
    ) -> None:
        self._presence = presence
        self._ringer = ringer
        self._work = work
        self._heartbeat_s = heartbeat_s
        self._leave = leave or presence.tell_draining
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._beat, name="heartbeat", daemon=True),
            threading.Thread(target=self._lifeline, name="lifeline", daemon=True),
            threading.Thread(target=self._leaving, name="leaving", daemon=True),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()

    def _beat(self) -> None:
        while True:
            pause_s = self._heartbeat_s
            try:
                self._presence.heartbeat()
            except Unavailable as error:
                log.warning("heartbeat.missed", reason=str(error))
                # When Postgres is back, whoever is heard first keeps its leases.
                pause_s = min(pause_s, RETRY_S)
            except Exception:
                # A heartbeat that dies silently would cost every lease of this process.
                log.exception("heartbeat.failed")
            if self._stop.wait(pause_s):
                return

    def _lifeline(self) -> None:
        """While no bell can ring, look for work in Postgres itself."""
        while not self._stop.wait(POLL_S):
            if self._ringer.reachable():
                continue
            try:
                self._work()
            except Unavailable as error:
                log.warning("lifeline.missed", reason=str(error))
            except Exception:
                log.exception("lifeline.failed")

    def _leaving(self) -> None:
        """Once the worker is draining, see to it that it ends in time."""
        while not self._stop.wait(LOOK_S):
            if not self._presence.draining():
                continue
            try:
                self._leave()
            except Unavailable as error:
                log.warning("drain.waits", reason=str(error))
                self._stop.wait(POLL_S)
            except Exception:
                log.exception("drain.failed")
