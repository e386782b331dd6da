"""sweep: ring for every version with ready jobs, so that a lost bell costs seconds and no job."""

from dataclasses import dataclass

from app.broker.ring import Ringer, doorbell_for
from app.db import upkeep
from app.db.engine import Engine
from app.domain.lanes import queue_name

MANY = 64
"""With so many bells in a queue nobody is listening; one more would only fill Redis."""


@dataclass(frozen=True)
class Sweep:
    """Rings anew; bells that are already waiting coalesce with it."""

    engine: Engine
    ringer: Ringer
    slice_s: float

    def run_once(self) -> int:
        """Returns how many (version, lane) pairs have ready jobs."""
        waiting = upkeep.waiting(self.engine)
        for version, lane in waiting:
            if self.ringer.waiting(queue_name(version.spec.device, lane)) < MANY:
                self.ringer.ring(doorbell_for(version, lane, self.slice_s))
        return len(waiting)
