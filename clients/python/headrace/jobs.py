"""`client.jobs`: the jobs of a tenant."""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from math import ceil
from typing import Any
from urllib.parse import quote
from uuid import uuid4

from headrace import pages
from headrace.clock import Deadline
from headrace.events import Event, follow
from headrace.job import Job
from headrace.transport import Answer, Transport
from headrace.types import JobStatus

_PATH = "/v1/jobs"
_LONGEST_KEY = 255


class Jobs:
    """Find jobs, and act on them by id."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def get(self, job_id: str) -> Job:
        """The job with this id. Raises `NotFoundError`, also for another tenant's."""
        return Job(self.fetch(job_id).data, self)

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

        `limit` is the most you get in all; `after` is the id to go on after.

        >>> [job.model for job in client.jobs.list(status="succeeded", limit=2)]
        ['echo', 'echo']
        """
        params = {f"metadata[{key}]": value for key, value in (metadata or {}).items()}
        filters = {
            "status": status,
            "model": model,
            "created_after": _rfc3339(created_after),
            "created_before": _rfc3339(created_before),
            "after": after,
        }
        params |= {name: value for name, value in filters.items() if value is not None}
        return (Job(raw, self) for raw in pages.items(self.transport, _PATH, params, limit))

    def cancel(self, job_id: str) -> Job:
        """Ask for an end: at once if queued, within one micro-batch if running. Safe to repeat."""
        return Job(self.transport.request("POST", f"{_path(job_id)}/cancel").data, self)

    def retry(self, job_id: str) -> Job:
        """Submit the same again, as a new job."""
        answer = self.transport.request("POST", f"{_path(job_id)}/retry", headers=_key_header(None))
        return Job(answer.data, self)

    def delete(self, job_id: str) -> None:
        """Erase input and output, for good. The record that there was a job stays."""
        self.transport.request("DELETE", _path(job_id))

    def create(
        self,
        body: Mapping[str, Any],
        *,
        idempotency_key: str | None,
        hold: float = 0.0,
        deadline: Deadline | None = None,
    ) -> Job:
        """POST a body as it is. `Client.submit` is the comfortable way."""
        headers = _key_header(idempotency_key) | _prefer(hold)
        answer = self.transport.request(
            "POST", _PATH, body=body, headers=headers, hold=ceil(hold), deadline=deadline
        )
        return Job(answer.data, self)

    def fetch(self, job_id: str, *, hold: float = 0.0, deadline: Deadline | None = None) -> Answer:
        """GET a job, held by the server up to `hold` seconds while it has not ended."""
        return self.transport.request(
            "GET", _path(job_id), headers=_prefer(hold), hold=ceil(hold), deadline=deadline
        )

    def follow(self, job_id: str) -> Iterator[Event]:
        """A job's events up to and with `completed`. See `Job.stream`."""
        return follow(self.transport, f"{_path(job_id)}/events")


def _path(job_id: str) -> str:
    # A stray id must not turn into the path of something else.
    if job_id.strip(".") == "":
        raise ValueError("a job id is needed")
    return f"{_PATH}/{quote(job_id, safe='')}"


def _prefer(hold: float) -> dict[str, str]:
    return {"Prefer": f"wait={ceil(hold)}"} if hold > 0 else {}


def _key_header(key: str | None) -> dict[str, str]:
    key = str(uuid4()) if key is None else key
    if not (0 < len(key) <= _LONGEST_KEY and key.isascii() and key.isprintable()):
        raise ValueError(f"an idempotency key is 1 to {_LONGEST_KEY} printable ASCII characters")
    return {"Idempotency-Key": key}


def _rfc3339(moment: datetime | str | None) -> str | None:
    if isinstance(moment, datetime):
        return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
    return moment
