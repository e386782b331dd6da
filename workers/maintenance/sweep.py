"""sweep: ring for every version with ready jobs, and for deliveries and batches that are due.

So a lost bell costs seconds and no job, and a retry is sent within a tick of its time.
"""

from dataclasses import dataclass

from app.broker.ring import Ringer, doorbell_for
from app.db import batch_work, deliveries, upkeep
from app.db.engine import Engine
from app.domain.stages import BatchBell, DeliveryBell


@dataclass(frozen=True)
class Sweep:
    """Rings anew; bells that are already waiting coalesce with it, so none piles up where nobody listens."""

    engine: Engine
    ringer: Ringer
    slice_s: float

    def run_once(self) -> int:
        """Returns how many (version, lane) pairs have ready jobs."""
        waiting = upkeep.waiting(self.engine)
        for version, lane in waiting:
            self.ringer.ring(doorbell_for(version, lane, self.slice_s))
        if deliveries.any_due(self.engine):
            self.ringer.ring(DeliveryBell())
        batch_work.notice(self.engine)
        if batch_work.any_due(self.engine):
            self.ringer.ring(BatchBell())
        return len(waiting)
