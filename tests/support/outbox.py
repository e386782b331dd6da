"""Short ways to put webhooks into a real queue, for tests below the HTTP edge."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from app.db import delivery_log, endpoints
from app.db.endpoints import NewEndpoint
from app.domain.delivery import Event
from app.domain.ids import new_uuid
from app.domain.sealing import Keyring
from app.domain.signature import new_secret
from app.settings import Settings
from tests.support.jobs import Queue, succeeded
from workers.settle import settle


@dataclass
class Clock:
    """A clock that stands until it is moved."""

    moment: datetime = datetime(2030, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def forward(self, **by: float) -> None:
        self.moment += timedelta(**by)


@dataclass(frozen=True)
class Outbox:
    """A queue whose jobs end as they are told, and the endpoints of its tenant."""

    queue: Queue
    settings: Settings

    def endpoint(
        self,
        url: str,
        *events: str,
        secret: str | None = None,
        now: datetime | None = None,
    ) -> UUID:
        """Register an endpoint; `job.completed` unless events are named."""
        id = new_uuid()
        sealed = Keyring.of(self.settings).seal(secret or new_secret(), endpoints.endpoint_owner(id))
        new = NewEndpoint(id, self.queue.tenant_id, url, events or (Event.JOB_COMPLETED.value,), "", sealed)
        assert endpoints.insert(self.queue.engine, new, 100, now) is not None
        return id

    def finish(self, count: int = 1, *, output: bytes = b"{}", **job: Any) -> list[UUID]:
        """Submit jobs, claim them and settle them as succeeded."""
        ids = [self.queue.submit(**job) for _ in range(count)]
        worker = self.queue.worker()
        left = count
        while left:
            claimed = self.queue.claim(worker, 64)
            assert claimed
            settle(self.queue.engine, worker, [succeeded(job, output) for job in claimed])
            left -= len(claimed)
        return ids

    def deliveries(self) -> list[Any]:
        """Every delivery with its tries, oldest first."""
        ids = self.queue.execute("SELECT id FROM webhook_deliveries ORDER BY created_at, id")
        return [self.delivery(row.id) for row in ids]

    def delivery(self, delivery_id: UUID) -> Any:
        """One delivery with its tries."""
        row = delivery_log.get(self.queue.engine, self.queue.tenant_id, delivery_id)
        assert row is not None
        return row
