"""promote: deferred jobs whose time has come become ready."""

from dataclasses import dataclass

from app.db import upkeep
from app.db.engine import Engine
from app.observability import metrics

BATCH = 1000


@dataclass(frozen=True)
class Promote:
    """Moves what is due, in batches, until nothing is."""

    engine: Engine

    def run_once(self) -> int:
        """Returns how many jobs became ready."""
        total = 0
        while moved := upkeep.promote(self.engine, BATCH):
            total += moved
            metrics.PROMOTE_JOBS.inc(moved)
            if moved < BATCH:
                break
        return total
