"""Fair shares of the interactive lane: a tenant's next job stands behind as many as the tenant has waiting.

Start-time fair queueing: a job's rank is a virtual time, and the queue goes by rank. The first job of a
tenant who has none waiting stands at the queue's head; each further one a step behind the one before, and a
step is the shorter the larger the tenant's weight. So those who wait take turns by weight, whoever came with
more. Source: P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.

With nothing waiting, the head is the time of day. A step is shorter than any queue takes for a job, so
virtual time is never ahead of it once a queue is empty: nobody saves up, nobody pays for what is done.

How many a tenant has waiting is counted in Postgres every moment while any do, beside the requests, and what
this process accepted since is added. So accept needs no row that all of a tenant's requests would queue for.
One count at a time, of the versions that wait for it longest: however many there are, Postgres never counts
for more than a twentieth of the time.
"""

import contextlib
import threading
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.db.accept import Accepted
from app.db.quotas import Waiting
from app.domain.lanes import Lane
from app.domain.stages import QueuedJob, Turn
from app.errors import Unavailable
from app.intake.counts import beside, rest_s

STEP_US = 100
"""Between two jobs of a tenant of weight 1. So a queue may do 10,000 jobs a second."""
COUNT_EVERY_S = 0.02
MOST_VERSIONS = 16
"""In one count: with thousands of tenants in each, it has thousands of rows for each."""


@dataclass
class _Queue:
    """What is known of one version's interactive queue."""

    waiting: Mapping[int, int] = field(default_factory=dict)
    """By tenant, at the last count."""
    since: Counter[int] = field(default_factory=Counter)
    """By tenant, accepted here since that count began."""
    last: dict[int, int] = field(default_factory=dict)
    """The highest rank that was given here, by tenant."""
    head: int = 0
    counted: Counter[int] | None = None
    """Accepted since the count that is under way began."""


class Shares:
    """Gives jobs their turns. One per process; safe to share among threads."""

    def __init__(
        self,
        count: Callable[[Collection[int]], Waiting],
        clock: Callable[[], float],
        beside: Callable[[Callable[[], None]], None] = beside,
    ) -> None:
        """`count` tells how many interactive jobs of these versions wait; `beside` calls it."""
        self._count = count
        self._clock = clock
        self._beside = beside
        self._lock = threading.Lock()
        self._queues: dict[int, _Queue] = {}
        self._uncounted: dict[int, None] = {}
        """Versions that jobs came for since their last count, while others waited; in that order."""
        self._counting = False
        self._due_at = 0.0

    def turns(self, jobs: Sequence[QueuedJob]) -> list[Turn]:
        """The turn of each of these, which are about to be written in this order."""
        with self._lock:
            return [self._turn(job) for job in jobs]

    def placed(self, jobs: Sequence[QueuedJob], written: Mapping[UUID, Accepted]) -> None:
        """These were written; what is absent was not."""
        due: list[int] = []
        with self._lock:
            for job in jobs:
                accepted = written.get(job.id)
                if accepted is None or job.lane is not Lane.INTERACTIVE:
                    continue
                queue = self._queues[job.version_id]
                queue.head = max(queue.head, accepted.head)
                queue.last[job.tenant_id] = max(queue.last.get(job.tenant_id, 0), accepted.rank)
                if accepted.alone:
                    queue.waiting = {}
                    queue.since.clear()
                    queue.last = {job.tenant_id: accepted.rank}
                else:
                    self._uncounted[job.version_id] = None
            if self._uncounted and not self._counting and self._clock() >= self._due_at:
                due, self._counting = list(self._uncounted)[:MOST_VERSIONS], True
                for version_id in due:
                    del self._uncounted[version_id]
                    self._queues[version_id].counted = Counter()
        if due:
            self._beside(lambda: self._recount(due))

    def _turn(self, job: QueuedJob) -> Turn:
        if job.lane is not Lane.INTERACTIVE:
            return Turn()
        queue, tenant = self._queues.setdefault(job.version_id, _Queue()), job.tenant_id
        ahead = queue.waiting.get(tenant, 0) + queue.since[tenant]
        for accepted in (queue.since, queue.counted):
            if accepted is not None:
                accepted[tenant] += 1
        return Turn(STEP_US * ahead // job.weight, queue.last.get(tenant, 0), queue.head)

    def _recount(self, version_ids: Collection[int]) -> None:
        found = None
        try:
            with contextlib.suppress(Unavailable):  # what was known before is still about right
                found = self._count(version_ids)
        finally:
            with self._lock:
                for version_id in version_ids:
                    queue = self._queues[version_id]
                    if found is not None and queue.counted is not None:
                        queue.waiting, queue.since = found.jobs.get(version_id, {}), queue.counted
                        # No rank is before the head, so nobody is held back by one that is.
                        queue.last = {one: rank for one, rank in queue.last.items() if rank > queue.head}
                    queue.counted = None
                self._counting = False
                self._due_at = self._clock() + rest_s(found.took_s if found else 0.0, COUNT_EVERY_S)
