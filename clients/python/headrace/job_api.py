"""The requests that jobs are made of: paths, headers and raw answers. `Job` and `Jobs` dress them up."""

from collections.abc import Iterator, Mapping
from math import ceil
from typing import Any

from headrace import pages
from headrace.arguments import in_path
from headrace.clock import Deadline
from headrace.events import Event, follow
from headrace.headers import key_header
from headrace.transport import Answer, Transport

_PATH = "/v1/jobs"


class JobApi:
    """One method per endpoint."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    def create(
        self,
        body: Mapping[str, Any],
        *,
        idempotency_key: str | None,
        hold: float = 0.0,
        deadline: Deadline | None = None,
    ) -> dict[str, Any]:
        """POST a job; the server holds the answer up to `hold` seconds while it has not ended."""
        headers = key_header(idempotency_key) | _prefer(hold)
        return self._json("POST", _PATH, body=body, headers=headers, hold=ceil(hold), deadline=deadline)

    def fetch(self, job_id: str, *, hold: float = 0.0, deadline: Deadline | None = None) -> Answer:
        """GET a job, held likewise."""
        return self.transport.request(
            "GET", _path(job_id), headers=_prefer(hold), hold=ceil(hold), deadline=deadline
        )

    def list(self, params: Mapping[str, str], limit: int | None) -> Iterator[dict[str, Any]]:
        """GET every page, as it is reached."""
        return pages.items(self.transport, _PATH, params, limit)

    def cancel(self, job_id: str) -> dict[str, Any]:
        return self._json("POST", f"{_path(job_id)}/cancel")

    def retry(self, job_id: str) -> dict[str, Any]:
        return self._json("POST", f"{_path(job_id)}/retry", headers=key_header(None))

    def delete(self, job_id: str) -> dict[str, Any] | None:
        """What is left of the job, if the server shows it."""
        return self._json("DELETE", _path(job_id))

    def follow(self, job_id: str) -> Iterator[Event]:
        """GET the events, over as many connections as it takes."""
        return follow(self.transport, f"{_path(job_id)}/events")

    def _json(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        job: dict[str, Any] = self.transport.request(method, path, **options).data
        return job


def _path(job_id: str) -> str:
    return f"{_PATH}/{in_path(job_id, 'a job')}"


def _prefer(hold: float) -> dict[str, str]:
    return {"Prefer": f"wait={ceil(hold)}"} if hold > 0 else {}
