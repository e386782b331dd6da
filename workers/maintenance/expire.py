"""expire: jobs that waited longer than their `queue_ttl_s` end."""

from dataclasses import dataclass

import structlog

from app.db import upkeep
from app.db.engine import Engine
from app.observability import metrics
from workers.notify import Notifier

log = structlog.get_logger()

BATCH = 1000


@dataclass(frozen=True)
class Expire:
    """Ends what is overdue, in batches, and wakes whoever waits for it."""

    engine: Engine
    notifier: Notifier

    def run_once(self) -> int:
        """Returns how many jobs expired."""
        total = 0
        while ended := upkeep.expire(self.engine, BATCH):
            self.notifier.changed(ended)
            total += len(ended)
            metrics.EXPIRE_JOBS.inc(len(ended))
            if len(ended) < BATCH:
                break
        if total:
            log.info("expire.jobs", jobs=total)
        return total
