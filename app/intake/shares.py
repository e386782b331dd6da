"""Fair shares of the interactive lane: each tenant's next job stands behind as many as the tenant has waiting.

Start-time fair queueing: a job's rank is a virtual time, and the queue goes by rank. The first job of a tenant
who has none waiting stands at the queue's head; each further one a step behind the one before, and a step is the
shorter the larger the tenant's weight. So those who wait take turns by weight, whoever came with more. Source:
P. Goyal, H. Vin, H. Cheng, "Start-time Fair Queueing", SIGCOMM 1996.

With nothing waiting, the head is the time of day. A step is shorter than any queue takes for a job, so virtual
time is never ahead of it once a queue is empty: nobody saves up, and nobody pays for what is done.

How many a tenant has waiting is counted in Postgres now and then, and what this process accepted since is added.
So accept needs no row that all of a tenant's requests would queue for.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from app.db.accept import Accepted
from app.domain.stages import QueuedJob, Turn

STEP_US = 100
"""Between two jobs of a tenant of weight 1. So a queue may do 10,000 jobs a second."""
FRESH = 64
"""After so many jobs they are counted anew…"""
OLD_S = 1.0
"""…and after so long, where some wait."""
_AT_MOST = 1 / 20
"""The share of time that counting may take."""


@dataclass
class _Queue:
    """What is known of one version's interactive queue."""

    waiting: Mapping[int, int] = field(default_factory=dict)
    since: Counter[int] = field(default_factory=Counter)
    last: dict[int, int] = field(default_factory=dict)
    head: int = 0
    at: float = float("-inf")
    took_s: float = 0.0


class Shares:
    """Gives jobs their turns. One per process; safe to share among threads."""

    def __init__(self, count: Callable[[int], Mapping[int, int]], clock: Callable[[], float]) -> None:
        """`count` tells how many interactive jobs of a version wait, by tenant."""
        self._count = count
        self._clock = clock
        self._lock = threading.Lock()
        self._queues: dict[int, _Queue] = {}

    def turns(self, jobs: Sequence[QueuedJob]) -> list[Turn]:
        """The turn of each of these, which are about to be written in this order."""
        with self._lock:
            for version_id in {job.version_id for job in jobs}:
                self._look_again(version_id)
            return [self._turn(job) for job in jobs]

    def placed(self, jobs: Sequence[QueuedJob], written: Mapping[UUID, Accepted]) -> None:
        """These were written; what is absent was not."""
        with self._lock:
            for job in jobs:
                if (accepted := written.get(job.id)) is not None:
                    queue = self._queues[job.version_id]
                    queue.head = max(queue.head, accepted.head)
                    queue.last[job.tenant_id] = max(queue.last.get(job.tenant_id, 0), accepted.rank)

    def _turn(self, job: QueuedJob) -> Turn:
        queue, tenant = self._queues[job.version_id], job.tenant_id
        ahead = queue.waiting.get(tenant, 0) + queue.since[tenant]
        queue.since[tenant] += 1
        return Turn(STEP_US * ahead // job.weight, queue.last.get(tenant, 0), queue.head)

    def _look_again(self, version_id: int) -> None:
        queue = self._queues.setdefault(version_id, _Queue())
        now, fresh = self._clock(), queue.since.total()
        if queue.waiting or fresh >= FRESH:
            due = fresh >= FRESH or now - queue.at > OLD_S
            if due and now - queue.at >= queue.took_s / _AT_MOST:
                queue.waiting = self._count(version_id)
                queue.took_s = self._clock() - now
                self._begin(queue)
        elif fresh and now - queue.at > OLD_S:
            # So few are no backlog worth a count.
            self._begin(queue)

    def _begin(self, queue: _Queue) -> None:
        queue.since.clear()
        queue.at = self._clock()
        if not queue.waiting:
            queue.last.clear()
