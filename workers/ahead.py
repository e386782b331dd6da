"""What a child does before its time: claim the next window while the last micro-batch of this one runs.

What is claimed ahead is leased and no more. None of it is in hand, since a death is charged to what runs;
so none of it is read by the model's code before it is taken.
"""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from app.db.claim import Claimed


class Ahead:
    """Makes one claim at a time in a thread of its own, if it is `on`."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self._thread: ThreadPoolExecutor | None = None
        self._claiming: Future[Claimed] | None = None

    def start(self, claim: Callable[[], Claimed]) -> None:
        """Begin. What the claim before took must have been taken from here."""
        assert self._claiming is None, "a window that nobody would work off"
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="ahead")
        self._claiming = self._thread.submit(claim)

    def take(self) -> Claimed | None:
        """What was claimed, once it is; None if no claim was begun. Raises what the claim raised."""
        claiming, self._claiming = self._claiming, None
        return claiming.result() if claiming is not None else None

    def rest(self) -> None:
        """Wait for the claim, and forget it whatever came of it: its leases are lost with who made it."""
        if self._claiming is not None:
            wait([self._claiming])
            self._claiming = None
