"""`client.jobs`: the jobs of a tenant."""

from collections.abc import Iterator, Mapping
from datetime import datetime

from headrace.arguments import given
from headrace.clock import rfc3339
from headrace.job import Job
from headrace.job_api import JobApi
from headrace.types import JobStatus


class Jobs:
    """Find jobs, and act on them by id."""

    def __init__(self, api: JobApi) -> None:
        self._api = api

    def get(self, job_id: str) -> Job:
        """The job with this id. Raises `NotFoundError`, also for another tenant's."""
        return Job(self._api.fetch(job_id).data, self._api)

    def list(
        self,
        *,
        status: JobStatus | None = None,
        model: str | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        metadata: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int | None = None,
    ) -> Iterator[Job]:
        """Jobs that match every filter, newest first, fetched page by page while you iterate.

        `limit` is the most you get in all; `after` is the id to go on after. A time without a zone is this
        machine's.

        >>> [job.model for job in client.jobs.list(status="succeeded", limit=2)]
        ['echo', 'echo']
        """
        params = {f"metadata[{key}]": value for key, value in (metadata or {}).items()}
        params |= given(
            status=status,
            model=model,
            created_after=rfc3339(created_after),
            created_before=rfc3339(created_before),
            after=after,
        )
        return (Job(raw, self._api) for raw in self._api.list(params, limit))

    def cancel(self, job_id: str) -> Job:
        """Ask for an end: at once if queued, within one micro-batch if running. Safe to repeat."""
        return Job(self._api.cancel(job_id), self._api)

    def retry(self, job_id: str) -> Job:
        """Submit the same again, as a new job. Raises `ConflictError` while it has not ended."""
        return Job(self._api.retry(job_id), self._api)

    def delete(self, job_id: str) -> None:
        """Erase input, metadata and output, for good. The record that there was a job stays.

        Raises `ConflictError` while it has not ended.
        """
        self._api.delete(job_id)
