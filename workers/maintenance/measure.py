"""measure: how many jobs, deliveries and batches wait and run, for how long, and who works, as gauges."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import Gauge

from app.db import batch_work, deliveries, endpoints, upkeep
from app.db.engine import Engine
from app.observability import metrics


@dataclass
class Measure:
    """Sets the gauges. What was counted once and is gone now is set to 0, not left at its last value."""

    engine: Engine
    _seen: dict[Gauge, set[tuple[str, ...]]] = field(default_factory=dict)

    def run_once(self) -> int:
        """Returns how many jobs are alive."""
        depths = upkeep.depths(self.engine)
        self._set(
            metrics.QUEUE_JOBS,
            {(model, lane.label, place): depth.jobs for (model, lane, place), depth in depths.items()},
        )
        ready = {
            (model, lane.label): depth for (model, lane, place), depth in depths.items() if place == "ready"
        }
        self._set(metrics.QUEUE_OLDEST_SECONDS, {key: depth.oldest_s for key, depth in ready.items()})
        self._set(metrics.QUEUE_UNSERVED_JOBS, {key: depth.unserved for key, depth in ready.items()})
        self._set(metrics.WORKERS, upkeep.live_workers(self.engine))
        queue, overdue_s = deliveries.depths(self.engine)
        self._set(metrics.WEBHOOK_QUEUE, {(place,): count for place, count in queue.items()})
        metrics.WEBHOOK_OVERDUE_SECONDS.set(overdue_s)
        by_status = endpoints.by_status(self.engine)
        self._set(metrics.WEBHOOK_ENDPOINTS, {(status,): count for status, count in by_status.items()})
        batches = batch_work.depths(self.engine)
        self._set(metrics.BATCHES_OPEN, {(status,): count for status, count in batches.items()})
        return sum(depth.jobs for depth in depths.values())

    def _set(self, gauge: Gauge, values: Mapping[Any, float]) -> None:
        seen = self._seen.setdefault(gauge, set())
        seen.update(values)
        for labels in seen:
            gauge.labels(*labels).set(values.get(labels, 0))
