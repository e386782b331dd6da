"""age: who has waited long behind a higher priority moves up to it."""

from dataclasses import dataclass

from app.db import upkeep
from app.db.engine import Engine
from app.observability import metrics


@dataclass(frozen=True)
class Age:
    """Moves up, one priority for each `after_s` seconds since a job was accepted, what others overtake."""

    engine: Engine
    after_s: float

    def run_once(self) -> int:
        """Returns how many jobs moved up."""
        moved = upkeep.age(self.engine, self.after_s)
        metrics.AGE_JOBS.inc(moved)
        return moved
