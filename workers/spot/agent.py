"""The agent: a thread of a worker's parent that looks for notices and has the worker leave.

It holds no connection to Postgres or Redis and no lock that a child could inherit: all it does is set the
worker's flag and end the worker. Nothing that the metadata server does or fails to do delays work.
"""

import threading
from collections.abc import Callable

from app.domain.draining import DrainCause
from app.observability import logs
from workers.drainflag import DrainFlag
from workers.spot.notice import Kind, Notice, Provider, Unreadable

log = logs.get_logger()


class Agent:
    """Looks every `poll_s` seconds. `end_worker` asks the worker to end, `hear_no_more` not to hear bells any
    more; both are False if the worker is not up yet.
    """

    def __init__(
        self,
        provider: Provider,
        flag: DrainFlag,
        end_worker: Callable[[], bool],
        hear_no_more: Callable[[], bool],
        *,
        cordons: bool = False,
        poll_s: float = 2.0,
    ) -> None:
        self._provider = provider
        self._flag = flag
        self._end_worker = end_worker
        self._hear_no_more = hear_no_more
        self._cordons = cordons
        self._poll_s = poll_s
        self._looked = self._stays = self._cordoned = self._deaf = self._ending = False
        self._said: object = None
        self._stop = threading.Event()

    def start(self) -> None:
        """Look from now on, in a thread that ends with the process."""
        threading.Thread(target=self._run, name="spot", daemon=True).start()

    def stop(self) -> None:
        """Look no more, and tell the cloud that the worker has left, if it left because of a notice."""
        self._stop.set()
        if self._flag.cause is not DrainCause.NOTICE:
            return
        try:
            self._provider.left()
        except Unreadable as error:
            log.warning("spot.unacknowledged", reason=str(error))

    def look(self) -> None:
        """One look, and what follows from it."""
        first, self._looked = not self._looked, True
        try:
            notice = self._provider.look()
        except Unreadable as error:
            self._say(str(error), "spot.unreadable", reason=str(error))
            return
        except Exception:
            log.exception("spot.bug")
            return
        if notice is None:
            self._all_clear()
        elif notice.kind is Kind.REBALANCE:
            self._rebalance(notice)
        else:
            self._interruption(notice, first)
        if (self._stays or self._cordoned) and not self._deaf:
            # A bell that is heard here is not heard by somebody who could answer it.
            self._deaf = self._hear_no_more()

    def _interruption(self, notice: Notice, first: bool) -> None:
        self._flag.enter(DrainCause.NOTICE, notice.left_s)
        # Who starts under a notice has nothing to hand over. Ending would only have it started again.
        self._stays |= first
        left_s = None if notice.left_s is None else round(notice.left_s, 1)
        self._say(
            (notice.kind, notice.what), "spot.notice", what=notice.what, left_s=left_s, stays=self._stays
        )
        if not self._stays and not self._ending:
            self._ending = self._end_worker()

    def _rebalance(self, notice: Notice) -> None:
        self._say(notice.kind, "spot.rebalance", what=notice.what, cordons=self._cordons)
        if self._cordons:
            self._flag.enter(DrainCause.CORDON)
            self._cordoned = True

    def _all_clear(self) -> None:
        self._said = None
        if (self._stays or self._cordoned) and not self._ending:
            log.info("spot.withdrawn")
            # Setting the flag is final. Whoever runs the worker starts it anew.
            self._ending = self._end_worker()

    def _say(self, seen: object, event: str, **facts: object) -> None:
        """Once for each thing that is seen, however often."""
        if seen != self._said:
            self._said = seen
            log.warning(event, **facts)

    def _run(self) -> None:
        while not self._stop.is_set():
            self.look()
            self._stop.wait(self._poll_s)
