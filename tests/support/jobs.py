"""Short ways to put jobs into a real queue, for tests below the HTTP edge."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from pydantic import SecretStr

from app.db import accept, claim, jobs, models, tenants, workers
from app.db.engine import Engine, make_engine
from app.domain.ids import new_uuid
from app.domain.lanes import Lane, Priority
from app.domain.model import ModelVersion
from app.domain.retry import RetryPolicy
from app.domain.stages import ClaimedJob, Failed, Outcome, QueuedJob, Succeeded, WorkerIdentity
from app.settings import Settings
from tests.support.models import ECHO_SPEC


@dataclass(frozen=True)
class Queue:
    """A migrated database with one tenant and the `echo` model registered."""

    engine: Engine
    tenant_id: int
    echo: ModelVersion

    @classmethod
    def open(cls, database_url: str) -> "Queue":
        engine = make_engine(SecretStr(database_url), pool_size=5, lookups_only=True)
        tenant_id = tenants.ensure(engine, "default", actor="test")
        models.register(engine, ECHO_SPEC, actor="test")
        echo = models.find(engine, "echo", None)
        assert echo is not None
        return cls(engine, tenant_id, echo)

    def submit(self, input: Any = None, *, version: ModelVersion | None = None, **changes: Any) -> UUID:
        """Accept one job, as the API would after validation; returns its id."""
        job = self.job(input, version=version, **changes)
        accepted = accept.accept(self.engine, job, None)
        assert isinstance(accepted, accept.Accepted)
        return job.id

    def job(self, input: Any = None, *, version: ModelVersion | None = None, **changes: Any) -> QueuedJob:
        """One that is not written yet."""
        version = version or self.echo
        fields: dict[str, Any] = {
            "id": new_uuid(),
            "tenant_id": self.tenant_id,
            "version_id": version.id,
            "model": version.spec.name,
            "version": version.spec.version,
            "device": version.spec.device,
            "lane": Lane.INTERACTIVE,
            "priority": Priority.NORMAL,
            "input": orjson.dumps({} if input is None else input),
            "input_hash": b"",
            "queue_ttl_s": 3600.0,
            "execution_timeout_s": version.spec.execution_timeout_s,
            "retry": RetryPolicy(),
        }
        return QueuedJob(**{**fields, **changes})

    def worker(self, **changes: Any) -> WorkerIdentity:
        """Register a worker that is no process."""
        fields: dict[str, Any] = {
            "id": new_uuid(),
            "name": "test/0",
            "host": "nowhere",
            "pid": 1,
            "pool": "default",
            "purchase": "on_demand",
            "device": "cpu",
            "queues": ("cpu.interactive",),
        }
        worker = WorkerIdentity(**{**fields, **changes})
        workers.register(self.engine, worker)
        return worker

    def claim(
        self, worker: WorkerIdentity, window: int = 100, lane: Lane = Lane.INTERACTIVE
    ) -> list[ClaimedJob]:
        """Claim as a worker does."""
        return list(claim.claim(self.engine, worker.id, self.echo.id, lane, window, 60.0).jobs)

    def get(self, job_id: UUID) -> Any:
        """The job's row as the API reads it."""
        row = jobs.get(self.engine, self.tenant_id, job_id)
        assert row is not None
        return row

    def output(self, job_id: UUID) -> Any:
        """What the job's model gave, read from its JSON; None if nothing."""
        text = self.get(job_id).output
        return None if text is None else orjson.loads(text)

    def execute(self, statement: str, **parameters: Any) -> Any:
        """Plain SQL, to arrange what can't be arranged otherwise (an old heartbeat) and to look."""
        from sqlalchemy import text

        with self.engine.connect() as connection:
            result = connection.execute(text(statement), parameters)
            return result.all() if result.returns_rows else result.rowcount


def succeeded(job: ClaimedJob, output: bytes = b"{}") -> Outcome:
    """The outcome of a job that went well, alone."""
    return Outcome(job, Succeeded(output), batch_size=1, units=1, run_s=0.01, device_s=0.005)


def failed(job: ClaimedJob, *, retryable: bool = False) -> Outcome:
    """The outcome of a job whose model raised."""
    return Outcome(job, Failed("model_error", "boom", retryable), batch_size=1, units=1)


def settings_for(database_url: str, redis_url: str, **groups: Any) -> Settings:
    """Settings of a process that works on these servers."""
    return Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        secret_key=SecretStr("for-tests-only-" + "x" * 32),
        **groups,
    )
