"""How many jobs a tenant may have. Refused at create, never later.

Whoever is far from the limit goes by the count of all tenants together (`app/intake/census.py`). Once a
quarter of the room that it left is used up, the tenant is counted alone, or with those who ask at the same
time: one count of a process is under way at a time. That count is remembered, what this process accepted
since is added, and it is made anew once a quarter of its room is used up, or it is old. So it costs next to
nothing far from the limit, and is exact close to it, but for requests of the same moment in other processes.
Short of a refusal, no more than a twentieth of the time is spent on counting a tenant; and whoever was
refused is told so for that long without counting again.
"""

import math
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from app.db import quotas as sql
from app.db.engine import Engine
from app.db.scope import on_behalf_of
from app.domain.limits import effective
from app.errors import TooMany
from app.intake.authenticate import Principal
from app.intake.cache import TtlCache
from app.intake.census import Census
from app.intake.coalesce import Coalescer
from app.intake.counts import rest_s
from app.settings import Limits

_OLD_S = 10.0
_TENANTS = 16_384
_MOST_TOGETHER = 64
"""Tenants in one count: each job that waits is compared with each of them."""
_RETRY_AFTER_S = 1.0
COUNT_EVERY_S = 0.02
"""At most so often, short of a refusal by a guess."""


@dataclass
class _Count:
    """What is known of one tenant."""

    held: sql.Held = field(default_factory=lambda: sql.Held(0, 0))
    at: float = float("-inf")
    since: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Quotas:
    """Lets jobs in or not. One per process; safe to share among threads."""

    def __init__(self, engine: Engine, defaults: Limits, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._defaults = defaults
        self._clock = clock
        self._census = Census(lambda: sql.held_by_all(engine), clock)
        self._to_come: TtlCache[int, int] = TtlCache(_TENANTS, _OLD_S, clock)
        self._together = Coalescer(self._held, _MOST_TOGETHER)
        self._counts: dict[int, _Count] = {}
        """Of those who are close to a limit."""

    def admit(self, principal: Principal, jobs: int) -> None:
        """Raises `TooMany` if the tenant would have too many with `jobs` more."""
        queued = effective(principal.limits.queued_jobs, self._defaults.queued_jobs)
        in_flight = effective(principal.limits.in_flight_jobs, self._defaults.in_flight_jobs)
        if not queued and not in_flight:
            return
        if self._is_far(principal.tenant_id, jobs, queued, in_flight):
            self._counts.pop(principal.tenant_id, None)
            self._census.note(principal.tenant_id, jobs)
            return
        count = self._counts.setdefault(principal.tenant_id, _Count())
        with count.lock:
            violated = self._violated(principal.tenant_id, count, jobs, queued, in_flight)
            if not violated:
                count.since += jobs
                self._census.note(principal.tenant_id, jobs)
                return
        limit = queued if violated[0] == "queued_jobs" else in_flight
        kind = "waiting" if violated[0] == "queued_jobs" else "that have not ended"
        raise TooMany(
            "job_quota_exceeded",
            f"with {jobs} more, your tenant would have over {limit} jobs {kind}",
            _RETRY_AFTER_S,
            violated,
        )

    def _held(self, tenant_ids: Sequence[int]) -> list[sql.Held]:
        with on_behalf_of(tenant_ids):
            found = sql.held(self._engine, set(tenant_ids))
        return [found[tenant_id] for tenant_id in tenant_ids]

    def _is_far(self, tenant_id: int, jobs: int, queued: int, in_flight: int) -> bool:
        """Whether these, and all since the count of everybody, use up no more than a quarter of the room."""
        known = self._census.of(tenant_id)
        if known is None:
            return False
        to_come = self._to_come.get(tenant_id, lambda: sql.to_come(self._engine, tenant_id)) or 0
        room = _room(known.held.queued + to_come, known.held.running, queued, in_flight)
        return (known.since + jobs) * 4 <= room

    def _violated(self, tenant_id: int, count: _Count, jobs: int, queued: int, in_flight: int) -> list[str]:
        def over() -> list[str]:
            waiting = count.held.queued + count.since + jobs
            found = ["queued_jobs"] if queued and waiting > queued else []
            if in_flight and waiting + count.held.running > in_flight:
                found.append("in_flight_jobs")
            return found

        now = self._clock()
        room = _room(count.held.queued, count.held.running, queued, in_flight)
        due = now - count.at > _OLD_S
        rested = now - count.at >= rest_s(count.held.took_s, COUNT_EVERY_S)
        near = (count.since + jobs) * 4 > room
        # What was accepted since may have ended: nobody is refused for a guess.
        guessed = count.since > 0 and bool(over())
        if due or guessed or (rested and (near or over())):
            count.held = self._together(tenant_id)
            count.at, count.since = self._clock(), 0
        return over()


def _room(waiting: int, running: int, queued: int, in_flight: int) -> float:
    """For how many more there is room, by two limits of which either may be none."""
    return min(
        queued - waiting if queued else math.inf, in_flight - waiting - running if in_flight else math.inf
    )
