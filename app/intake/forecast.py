"""What a client is told of a job that waits: its place in the queue, and when it should be done."""

from collections.abc import Callable
from typing import Any

from app.db import forecast as sql
from app.db.engine import Engine
from app.domain.lanes import Lane, queue_name
from app.domain.states import JobStatus
from app.intake.cache import TtlCache

_PACES = 2048
_PACE_TTL_S = 2.0


class Forecasts:
    """One per process; safe to share among threads. Paces are as they were at most two seconds ago."""

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._paces: TtlCache[tuple[int, Lane], sql.Pace] = TtlCache(_PACES, _PACE_TTL_S, clock)
        # Apart: they are the same for every version of a queue, and all children are read to count them.
        self._children: TtlCache[str, int] = TtlCache(_PACES, _PACE_TTL_S, clock)

    def of(self, row: Any) -> dict[str, Any]:
        """`queue_position` (1 is next) and `eta_s` of a job's row, as far as they mean anything.

        Both are None for what doesn't wait for a worker, or has more than `MOST` jobs before it.
        """
        if row.status != JobStatus.QUEUED:
            return {}
        found = sql.ahead(self._engine, row.id)
        if found is None or found.jobs >= sql.MOST:
            return {}
        pace = self._paces.get((found.version_id, found.lane), lambda: sql.pace(self._engine, found))
        queue = queue_name(found.device, found.lane)
        children = self._children.get(queue, lambda: sql.children(self._engine, queue)) or 0
        eta_s = pace.seconds(found.jobs, children) if pace else None
        return {"queue_position": found.jobs + 1, "eta_s": None if eta_s is None else round(eta_s, 3)}
