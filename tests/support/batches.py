"""What a clerk and workers do to a batch, by hand: each move is one statement, as theirs are."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.domain.batch_states import ENDED, BatchStatus
from app.domain.ids import MOST_ITEMS, item_uuid
from tests.support.jobs import Queue

_MAKE = """
    WITH made AS (
        INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at,
                          execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms,
                          batch_id, custom_id)
        SELECT id, :tenant_id, :version_id, 1, 1, json_build_object('n', n), '', now() + interval '1 day',
               60, 3, 1000, 60000, :batch_id, 'line-' || n
          FROM unnest(CAST(:ids AS uuid[])) WITH ORDINALITY AS t (id, n)
        RETURNING id, version_id, lane, priority, expires_at
    ), placed AS (
        INSERT INTO job_ready (job_id, version_id, lane, priority, rank, expires_at)
        SELECT id, version_id, lane, priority, 0, expires_at FROM made
    )
    UPDATE batches SET status = 'in_progress', in_progress_at = now(), total = :count, ingested = :count
     WHERE id = :batch_id
"""
_CLAIM = """
    WITH taken AS (
        DELETE FROM job_ready WHERE job_id IN (
            SELECT job_id FROM job_ready WHERE job_id > :batch_id AND job_id <= :last
             ORDER BY job_id LIMIT :count)
        RETURNING *
    )
    INSERT INTO job_leases (job_id, version_id, lane, priority, rank, expires_at, epoch, worker_id)
    SELECT job_id, version_id, lane, priority, rank, expires_at, nextval('lease_epoch'),
           CAST(:worker_id AS uuid)
      FROM taken
"""
_SETTLE = """
    WITH gone AS (
        DELETE FROM job_leases WHERE job_id IN (
            SELECT job_id FROM job_leases WHERE job_id > :batch_id AND job_id <= :last
             ORDER BY job_id LIMIT :count)
        RETURNING job_id
    ), ended AS (
        INSERT INTO job_results (job_id, status, output, error)
        SELECT job_id, CAST(:status AS text),
               CASE WHEN :status = 'succeeded' THEN json_build_object('of', job_id) END,
               CASE WHEN :status = 'failed' THEN json_build_object('code', 'boom', 'message', 'it broke') END
          FROM gone
        RETURNING status
    )
    INSERT INTO batch_tallies (batch_id, succeeded, failed, canceled, expired)
    SELECT :batch_id, count(*) FILTER (WHERE status = 'succeeded'), count(*) FILTER (WHERE status = 'failed'),
           count(*) FILTER (WHERE status = 'canceled'), count(*) FILTER (WHERE status = 'expired')
      FROM ended
"""
_MOVE = """
    WITH work AS (DELETE FROM batch_work WHERE batch_id = :batch_id AND :ended)
    UPDATE batches SET status = :status, {status}_at = now() WHERE id = :batch_id
"""


@dataclass
class HandClerk:
    """Moves batches and their jobs."""

    queue: Queue
    worker_id: UUID

    @classmethod
    def start(cls, queue: Queue) -> "HandClerk":
        return cls(queue, queue.worker(name="clerk/0").id)

    def run(self, batch_id: UUID, count: int) -> None:
        """Validated: so many jobs, all of them queued."""
        ids = [item_uuid(batch_id, number) for number in range(1, count + 1)]
        version_id, tenant_id = self.queue.echo.id, self.queue.tenant_id
        asked: dict[str, Any] = {"version_id": version_id, "tenant_id": tenant_id, "count": count}
        self.queue.execute(_MAKE, batch_id=batch_id, ids=ids, **asked)

    def claim(self, batch_id: UUID, count: int) -> None:
        """The first of those that are queued run."""
        self.queue.execute(_CLAIM, **self._range(batch_id), count=count, worker_id=self.worker_id)

    def settle(self, batch_id: UUID, count: int, status: str = "succeeded") -> None:
        """The first of those that run end so."""
        self.queue.execute(_SETTLE, **self._range(batch_id), count=count, status=status)

    def work(self, batch_id: UUID, count: int, status: str = "succeeded") -> None:
        """Both."""
        self.claim(batch_id, count)
        self.settle(batch_id, count, status)

    def move(self, batch_id: UUID, status: BatchStatus) -> None:
        """To another status; at the end, the clerk has no more to do with it."""
        self.queue.execute(
            _MOVE.format(status=status), batch_id=batch_id, status=status.value, ended=status in ENDED
        )

    def wrong(self, batch_id: UUID, line: int, code: str = "invalid_json_line", **more: Any) -> None:
        """What is wrong with a line."""
        self.queue.execute(
            "WITH e AS (INSERT INTO batch_errors (batch_id, line, code, message, param)"
            " VALUES (:batch_id, :line, :code, 'not so', :param))"
            " UPDATE batches SET invalid = invalid + 1 WHERE id = :batch_id",
            **{"batch_id": batch_id, "line": line, "code": code, "param": None, **more},
        )

    def _range(self, batch_id: UUID) -> dict[str, UUID]:
        return {"batch_id": batch_id, "last": item_uuid(batch_id, MOST_ITEMS)}
