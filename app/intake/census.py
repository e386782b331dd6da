"""How many jobs each tenant has, counted for all of them at once and beside the requests.

A count reads every job that waits, whoever's it is; so one for all tenants costs what one for each does, and
however many ask, Postgres counts no more often. What this process let in since is added.
"""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from app.db.quotas import Everybody, Held
from app.errors import Unavailable
from app.intake.counts import beside, rest_s

COUNT_EVERY_S = 10.0
_OLD = 3
"""So many times as long as a count should hold, it says nothing about now."""
_NOTHING = Held(0, 0)


@dataclass(frozen=True, slots=True)
class Known:
    """A tenant's jobs at the last count, and how many were let in here since it began."""

    held: Held
    since: int


class Census:
    """One per process; safe to share among threads."""

    def __init__(
        self,
        count: Callable[[], Everybody],
        clock: Callable[[], float],
        beside: Callable[[Callable[[], None]], None] = beside,
    ) -> None:
        """`beside` runs `count`, which counts every tenant's jobs."""
        self._count = count
        self._clock = clock
        self._beside = beside
        self._lock = threading.Lock()
        self._held: Mapping[int, Held] = {}
        self._since: Counter[int] = Counter()
        self._counting: Counter[int] | None = None
        """Let in since the count that is under way began."""
        self._due_at = self._old_at = float("-inf")

    def of(self, tenant_id: int) -> Known | None:
        """What is known of this tenant; None before the first count, and if none succeeded for long."""
        now = self._clock()
        with self._lock:
            due = self._counting is None and now >= self._due_at
            if due:
                self._counting = Counter()
        if due:
            self._beside(self._recount)
        with self._lock:
            if now >= self._old_at:
                return None
            return Known(self._held.get(tenant_id, _NOTHING), self._since[tenant_id])

    def note(self, tenant_id: int, jobs: int) -> None:
        """These were let in now."""
        with self._lock:
            for let_in in (self._since, self._counting):
                if let_in is not None:
                    let_in[tenant_id] += jobs

    def _recount(self) -> None:
        found = None
        try:
            with contextlib.suppress(Unavailable):
                found = self._count()
        finally:
            rest = rest_s(found.took_s if found else 0.0, COUNT_EVERY_S)
            with self._lock:
                now = self._clock()
                if found is not None and self._counting is not None:
                    self._held, self._since = found.jobs, self._counting
                    self._old_at = now + _OLD * rest
                self._counting = None
                self._due_at = now + rest
