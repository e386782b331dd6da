"""sweep: ring for every version with ready jobs, and for deliveries and batches that are due.

So a lost bell costs seconds and no job, and a retry is sent within a tick of its time.
"""

from collections import Counter
from dataclasses import dataclass

from app.broker.ring import Ringer, doorbell_for
from app.db import batch_work, deliveries, upkeep
from app.db.engine import Engine
from app.domain.stages import BatchBell, DeliveryBell

MANY = 64
"""With so many bells in a queue for each that may ring nobody is listening; one more would only fill Redis.

For each: where many versions are busy their bells fill the queue, and the only job of another one, that is
tried again or was rescued, has no other bell than this one's.
"""


@dataclass(frozen=True)
class Sweep:
    """Rings anew; bells that are already waiting coalesce with it."""

    engine: Engine
    ringer: Ringer
    slice_s: float

    def run_once(self) -> int:
        """Returns how many (version, lane) pairs have ready jobs."""
        waiting = upkeep.waiting(self.engine)
        bells = [doorbell_for(version, lane, self.slice_s) for version, lane in waiting]
        for queue, versions in Counter(bell.queue for bell in bells).items():
            if self.ringer.waiting(queue) < MANY * versions:
                for bell in bells:
                    if bell.queue == queue:
                        self.ringer.ring(bell)
        if deliveries.any_due(self.engine) and self.ringer.waiting(DeliveryBell.queue) < MANY:
            self.ringer.ring(DeliveryBell())
        batch_work.notice(self.engine)
        if batch_work.any_due(self.engine) and self.ringer.waiting(BatchBell.queue) < MANY:
            self.ringer.ring(BatchBell())
        return len(waiting)
