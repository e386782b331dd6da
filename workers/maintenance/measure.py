"""measure: how many jobs, deliveries and batches wait and run, as gauges."""

from dataclasses import dataclass, field

from app.db import batch_work, deliveries, upkeep
from app.db.engine import Engine
from app.domain.lanes import Lane
from app.observability import metrics


@dataclass
class Measure:
    """Sets the gauge. What was counted once and is empty now is set to 0, not left at its last value."""

    engine: Engine
    _seen: set[tuple[str, Lane, str]] = field(default_factory=set)
    _seen_statuses: set[str] = field(default_factory=set)

    def run_once(self) -> int:
        """Returns how many jobs are alive."""
        depths = upkeep.depths(self.engine)
        self._seen |= depths.keys()
        for model, lane, place in self._seen:
            gauge = metrics.QUEUE_JOBS.labels(model, lane.label, place)
            gauge.set(depths.get((model, lane, place), 0))
        for where, count in deliveries.depths(self.engine).items():
            metrics.WEBHOOK_QUEUE.labels(where).set(count)
        batches = batch_work.depths(self.engine)
        self._seen_statuses |= batches.keys()
        for status in self._seen_statuses:
            metrics.BATCHES_OPEN.labels(status).set(batches.get(status, 0))
        return sum(depths.values())
