"""Outputs that are too large for a row. Each is an object before settle, and a file by settle's statement.

Who is killed in between leaves an object that was written down as stray: the scheduler removes it.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import orjson

from app.db.engine import Engine
from app.db.files import object_key
from app.domain.ids import format_id
from app.domain.stages import Failed, Outcome, Released, SettledJob, StoredOutput, Succeeded
from app.domain.states import JobStatus, Reason
from app.errors import NoRoom, Unavailable
from app.intake.upload import put_aside, remove
from app.observability import logs, metrics
from app.storage import Storage

log = logs.get_logger()

RETRY_S = 0.5
FULL_S = 60.0
"""When a job is run again whose output the storage had no room for."""


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where one child's outputs go."""

    engine: Engine
    storage: Storage
    inline_bytes: int
    """The largest that stays in Postgres; all do if there is no storage."""
    max_bytes: int
    """Larger than this is nobody's output."""
    keep_s: float
    """How long a stored output is kept, in seconds: no shorter than its job's record."""
    clock: Callable[[], float] = time.monotonic

    def sort(self, outcomes: Sequence[Outcome]) -> tuple[Sequence[Outcome], list[Outcome]]:
        """Those that can be settled as they are, and those whose outputs are to be stored first."""
        if not any(self._size(outcome) > self.inline_bytes for outcome in outcomes):
            return outcomes, []
        plain, large = [], []
        for outcome in outcomes:
            size = self._size(outcome)
            if size > self.max_bytes:
                message = f"the output has {size} bytes as JSON, and {self.max_bytes} is the most"
                plain.append(replace(outcome, verdict=Failed("output_too_large", message, retryable=False)))
            elif size > self.inline_bytes and self.storage.configured:
                large.append(outcome)
            else:
                plain.append(outcome)
        return plain, large

    def store(self, large: Sequence[Outcome], patience_s: float) -> list[Outcome]:
        """Their outputs become objects, and they name them. One that can't be stored in time fails, and is
        tried again by its job's policy; if the storage has no room, later and without a charge.
        """
        until = self.clock() + patience_s
        return [self._store(outcome, until) for outcome in large]

    def clean(self, stored: Sequence[Outcome], settled: Sequence[SettledJob]) -> None:
        """Remove what settle made no file of: the lease was lost, or the job canceled."""
        kept = {job.id for job in settled if job.status is JobStatus.SUCCEEDED}
        for outcome in stored:
            file = _file_of(outcome)
            if file is None:
                continue
            if outcome.job.id in kept:
                metrics.FILES_STORED.labels("job_output").inc()
                metrics.FILES_STORED_BYTES.labels("job_output").inc(file.size)
            else:
                remove(self.engine, self.storage, object_key(file.tenant_id, file.id))

    def _store(self, outcome: Outcome, until: float) -> Outcome:
        assert isinstance(outcome.verdict, Succeeded)
        output, tenant_id = outcome.verdict.output, outcome.job.tenant_id
        while True:
            try:
                file_id, sha256 = put_aside(self.engine, self.storage, tenant_id, output)
                break
            except Unavailable as error:
                if self.clock() >= until:
                    log.warning("settle.output_not_stored", reason=str(error))
                    if isinstance(error, NoRoom):
                        return replace(outcome, verdict=Released(Reason.RETRY_BACKOFF, FULL_S))
                    message = f"the output has {len(output)} bytes, and the file storage could not take it"
                    return replace(outcome, verdict=Failed("output_not_stored", message, retryable=True))
            time.sleep(RETRY_S)
        stub = {"file_id": format_id("file", file_id), "size": len(output), "sha256": sha256.hex()}
        file = StoredOutput(file_id, tenant_id, len(output), sha256, self.keep_s)
        return replace(outcome, verdict=Succeeded(orjson.dumps(stub), file))

    @staticmethod
    def _size(outcome: Outcome) -> int:
        return len(outcome.verdict.output) if isinstance(outcome.verdict, Succeeded) else 0


def _file_of(outcome: Outcome) -> StoredOutput | None:
    return outcome.verdict.file if isinstance(outcome.verdict, Succeeded) else None
