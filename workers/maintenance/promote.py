"""promote: deferred jobs whose time has come become ready."""

from dataclasses import dataclass

from app.db import upkeep
from app.db.engine import Engine

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
            if moved < BATCH:
                break
        return total
