"""prune: drop the partitions past retention, forget what is old, make the partitions of the days ahead.

And remove files that have expired, and what is in the storage but is no file's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

import structlog

from app.db import batch_steps, partitions, upkeep
from app.db.engine import Engine, transaction
from app.intake import files
from app.storage import Storage

log = structlog.get_logger()


@dataclass(frozen=True)
class Prune:
    """Retention drops whole days, never rows. By Postgres's clock: this machine's may be years ahead after a
    restart, and what is dropped does not come back.
    """

    engine: Engine
    retention_days: int
    idempotency_hours: int
    clock: Callable[[], datetime] | None = None

    def run_once(self) -> int:
        """Returns how many partitions were dropped."""
        now = self.clock() if self.clock else upkeep.now(self.engine)
        horizon = now - timedelta(days=self.retention_days)
        # For good, before anything is written: on a full disk this is what makes room.
        with transaction(self.engine) as connection:
            dropped = partitions.drop_before(connection, horizon)
        batches = batch_steps.prune(self.engine, horizon)
        keys = upkeep.forget_idempotency_keys(self.engine, self.idempotency_hours)
        workers = upkeep.forget_workers(self.engine)
        with transaction(self.engine) as connection:
            partitions.ensure(connection, now)
        if dropped or batches or keys or workers:
            log.info(
                "prune.done", partitions=dropped, batches=batches, idempotency_keys=keys, workers=workers
            )
        return len(dropped)


@dataclass(frozen=True)
class PruneFiles:
    """A few at a time, so that nothing else has to wait for a slow storage."""

    engine: Engine
    storage: Storage

    def run_once(self) -> int:
        """Returns how many files had expired."""
        expired, objects = files.prune(self.engine, self.storage)
        if expired or objects:
            log.info("prune.files", expired=expired, objects=objects)
        return expired
