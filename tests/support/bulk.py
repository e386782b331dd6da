"""Batches below the HTTP edge: a clerk in the test's own process, on real Postgres, Valkey and a folder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson

from app.broker.ring import Ringer
from app.db import batch_work, models, tenants
from app.db.batch_work import Lease
from app.db.engine import make_engine
from app.domain.ids import new_batch_uuid, new_uuid
from app.domain.lanes import Lane
from app.domain.model import ModelVersion
from app.domain.stages import WorkerIdentity
from app.intake import files
from app.settings import Batches, Settings
from app.storage import Storage
from app.storage.local import LocalStorage
from tests.support.crew import make_child, register
from tests.support.jobs import Queue, settings_for, succeeded
from tests.support.models import ECHO_SPEC
from workers.bulk.clerk import Clerk
from workers.child import Child
from workers.drainflag import DrainFlag
from workers.notify import Notifier
from workers.pipeline import drain
from workers.presence import host_identity
from workers.settle import settle

ENDED = ("completed", "failed", "expired", "cancelled")


def line(custom_id: Any, input: Any = None, **body: Any) -> dict[str, Any]:
    """A line of `/v1/jobs` for `echo`."""
    asked = {"model": "echo", "input": {"n": custom_id} if input is None else input, **body}
    return {"custom_id": str(custom_id), "method": "POST", "url": "/v1/jobs", "body": asked}


def jsonl(lines: Iterable[Any]) -> bytes:
    """These as a file; bytes are taken as they are."""
    return b"".join((one if isinstance(one, bytes) else orjson.dumps(one)) + b"\n" for one in lines)


@dataclass
class Bulk:
    """A tenant's batches, the clerk that keeps their books, and a worker for the batch lane."""

    queue: Queue
    storage: Storage
    settings: Settings
    clerk: Clerk
    child: Child
    made: list[Clerk] = field(default_factory=list)

    @classmethod
    def open(cls, database_url: str, redis_url: str, folder: Path, **batches: Any) -> "Bulk":
        settings = settings_for(
            database_url, redis_url, allow_local_webhooks=True, batches=Batches(**batches)
        )
        storage = LocalStorage(folder)
        child = make_child(database_url, redis_url, queues=("cpu.batch",))
        bulk = cls(Queue.open(database_url), storage, settings, None, child)  # type: ignore[arg-type]
        bulk.clerk = bulk.new_clerk()
        return bulk

    def new_clerk(self, **changes: Any) -> Clerk:
        identity = WorkerIdentity(
            new_uuid(), "clerk/0", host_identity(), 1, "clerk", "on_demand", "none", ("batches",)
        )
        parts: dict[str, Any] = {
            "engine": make_engine(
                self.settings.database_url, pool_size=3, statement_timeout_s=60, lookups_only=True
            ),
            "ringer": Ringer(self.settings.redis_url),
            "notifier": Notifier(self.settings.redis_url),
            "storage": self.storage,
            "identity": identity,
            "settings": self.settings,
            "flag": DrainFlag(),
        }
        clerk = Clerk(**{**parts, **changes})
        self.made.append(clerk)
        return clerk

    def close(self) -> None:
        for clerk in self.made:
            clerk.engine.dispose()
        self.child.engine.dispose()
        self.queue.engine.dispose()

    def file(self, content: bytes) -> UUID:
        """Store an input file; returns its id."""
        row = files.store(
            self.queue.engine, self.storage, self.queue.tenant_id, "batch", "in.jsonl", [content]
        )
        return row.id

    def create(
        self,
        content: bytes | Iterable[Any] | None,
        *,
        endpoint: str = "/v1/jobs",
        window_s: float = 86_400,
        **columns: Any,
    ) -> UUID:
        """A batch as the API makes it. Without content, one that waits to be gathered."""
        batch_id = new_batch_uuid()
        if content is not None:
            data = content if isinstance(content, bytes) else jsonl(content)
            columns["input_file_id"] = self.file(data)
        values = {
            "id": batch_id,
            "tenant_id": self.queue.tenant_id,
            "endpoint": endpoint,
            "completion_window": "24h",
            **columns,
        }
        names = ", ".join(values)
        marks = ", ".join(f":{name}" for name in values)
        self.queue.execute(
            f"INSERT INTO batches ({names}, expires_at)"
            f" VALUES ({marks}, now() + make_interval(secs => :window_s))",
            window_s=window_s,
            **values,
        )
        self.queue.execute("INSERT INTO batch_work (batch_id) VALUES (:id)", id=batch_id)
        return batch_id

    def create_for_other_tenant(self, lines: Iterable[Any]) -> UUID:
        """A batch of a second tenant."""
        queue = self.queue
        self.queue = replace(queue, tenant_id=tenants.ensure(queue.engine, "other", actor="test"))
        try:
            return self.create(lines)
        finally:
            self.queue = queue

    def get(self, batch_id: UUID) -> Any:
        return batch_work.read(self.queue.engine, batch_id)

    def counts(self, batch_id: UUID) -> dict[str, int]:
        return dict(batch_work.counts(self.queue.engine, batch_id)._mapping)

    def errors(self, batch_id: UUID) -> list[tuple[int, str]]:
        rows = self.queue.execute(
            "SELECT line, code FROM batch_errors WHERE batch_id = :id ORDER BY line", id=batch_id
        )
        return [(row.line, row.code) for row in rows]

    def cancel(self, batch_id: UUID) -> None:
        """As the API does."""
        self.queue.execute(
            "UPDATE batches SET status = 'cancelling', cancelling_at = now() WHERE id = :id", id=batch_id
        )
        self.due(batch_id)

    def due(self, batch_id: UUID) -> None:
        self.queue.execute("UPDATE batch_work SET due_at = now() WHERE batch_id = :id", id=batch_id)

    def hurried_clerk(self) -> Clerk:
        """One that gives a batch back after each chunk."""
        worker = self.settings.worker.model_copy(update={"slice_s": 1e-9})
        return self.new_clerk(settings=self.settings.model_copy(update={"worker": worker}))

    def step(self, clerk: Clerk | None = None) -> None:
        """One step of the batch that is due the longest."""
        clerk = clerk or self.clerk
        clerk._get_on(self.claim(clerk))

    def claim(self, clerk: Clerk | None = None) -> Lease:
        """What a clerk does before each step."""
        clerk = clerk or self.clerk
        clerk.ensure_announced()
        batch_work.notice(self.queue.engine)
        lease = batch_work.claim(self.queue.engine, clerk.identity.id)
        assert lease is not None
        return lease

    def work(self, version: ModelVersion | None = None) -> int:
        """Run what is ready in the batch lane; returns how many jobs."""
        return drain(self.child, version or self.queue.echo, Lane.BATCH).jobs

    def run_some(self, worker: WorkerIdentity, jobs: int) -> None:
        """So many of the ready jobs succeed."""
        claimed = self.queue.claim(worker, jobs, Lane.BATCH)
        settle(self.queue.engine, worker, [succeeded(job) for job in claimed])

    def register_embedder(self) -> ModelVersion:
        return register(self.queue, "Lengths")

    def new_version_of_echo(self, version: str) -> None:
        models.register(self.queue.engine, replace(ECHO_SPEC, version=version), actor="test")

    def finish(self, batch_id: UUID, rounds: int = 50, version: ModelVersion | None = None) -> Any:
        """Clerk and worker in turn until the batch is at its end; its row."""
        for _ in range(rounds):
            self.clerk.bookkeep()
            row = self.get(batch_id)
            if row.status in ENDED:
                return row
            if not self.work(version):
                self.due(batch_id)
        raise AssertionError(f"the batch is still {self.get(batch_id).status}")

    def read(self, file_id: UUID | None) -> list[dict[str, Any]]:
        """A file's lines."""
        if file_id is None:
            return []
        row = files.fetch(self.queue.engine, self.queue.tenant_id, file_id)
        return [orjson.loads(text) for text in b"".join(files.content(self.storage, row)).splitlines()]

    def outputs(self, batch_id: UUID) -> tuple[Sequence[dict[str, Any]], Sequence[dict[str, Any]]]:
        """What is in the output and in the error file."""
        row = self.get(batch_id)
        return self.read(row.output_file_id), self.read(row.error_file_id)
