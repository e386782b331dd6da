"""What a worker's parent and its children share about leaving: why, and by when."""

import math
import mmap
import struct
import time
from collections.abc import Callable

from app.domain.draining import DrainCause

_CAUSES = tuple(DrainCause)
_UNTIL = struct.Struct("=d")
_OURS_AT = 1
_UNTIL_AT = 8


class DrainFlag:
    """Made before the fork, so that parent and children see the same bytes. Setting it is final.

    Times are of the monotonic clock, which all processes of a machine share.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._page = mmap.mmap(-1, 16)
        _UNTIL.pack_into(self._page, _UNTIL_AT, math.inf)

    def enter(self, cause: DrainCause, left_s: float | None = None) -> bool:
        """Claim nothing from now on; the machine goes in `left_s` seconds (None: not known). True at first.

        Said again, the time can only become shorter. The cause stays, unless it was a cordon: that one waits
        for another.
        """
        if left_s is not None:
            until = min(self._until(), self._clock() + max(0.0, left_s))
            _UNTIL.pack_into(self._page, _UNTIL_AT, until)
        before = self.cause
        # Last: who sees the cause finds the time.
        if before is None or before is DrainCause.CORDON:
            self._page[0] = _CAUSES.index(cause) + 1
        return before is None

    def by_ourselves(self) -> None:
        """The next SIGTERM is our own: it ends the worker, and says nothing about the time that is left."""
        self._page[_OURS_AT] = 1

    def terminated(self, grace_s: float) -> None:
        """A SIGTERM came, `grace_s` before whoever sent it loses patience."""
        ours, self._page[_OURS_AT] = self._page[_OURS_AT], 0
        self.enter(DrainCause.SIGTERM, None if ours else grace_s)

    def is_set(self) -> bool:
        """Whether the worker is draining."""
        return self._page[0] > 0

    @property
    def cause(self) -> DrainCause | None:
        """Why, or None if the worker is not draining."""
        number = self._page[0]
        return _CAUSES[number - 1] if number else None

    def left_s(self) -> float | None:
        """Seconds until the machine goes; None if that is not known."""
        until = self._until()
        return None if math.isinf(until) else until - self._clock()

    def _until(self) -> float:
        return float(_UNTIL.unpack_from(self._page, _UNTIL_AT)[0])
