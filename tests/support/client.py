"""A thin HTTP caller for tests of the server; the SDK has tests of its own."""

from typing import Any

import requests

from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until

_ENDED = ("succeeded", "failed", "canceled", "expired")


class Caller:
    """Submits and reads jobs of a running stack. Raises on any answer that is not 2xx."""

    def __init__(self, stack: RunningStack) -> None:
        self.stack = stack
        self._url, self._key = stack.url, stack.api_key

    def post(
        self, model: str, input: Any, *, headers: dict[str, str] | None = None, **fields: Any
    ) -> requests.Response:
        """POST /v1/jobs."""
        return requests.post(
            f"{self._url}/v1/jobs",
            json={"model": model, "input": input, **fields},
            headers={"Authorization": f"Bearer {self._key}", **(headers or {})},
            timeout=90,
        )

    def submit(self, model: str, input: Any, **fields: Any) -> str:
        """The id of a new job."""
        answer = self.post(model, input, **fields)
        assert answer.status_code == 202, answer.text
        return str(answer.json()["id"])

    def get(self, job_id: str, wait_s: int | None = None) -> dict[str, Any]:
        """The job now, or after at most `wait_s` seconds."""
        answer = requests.get(
            f"{self._url}/v1/jobs/{job_id}",
            headers={
                "Authorization": f"Bearer {self._key}",
                **({"Prefer": f"wait={wait_s}"} if wait_s else {}),
            },
            timeout=90,
        )
        answer.raise_for_status()
        job: dict[str, Any] = answer.json()
        return job

    def wait(self, job_id: str, deadline_s: float = 60) -> dict[str, Any]:
        """The job once it ended."""

        def ended() -> dict[str, Any] | None:
            job = self.get(job_id, wait_s=5)
            return job if job["status"] in _ENDED else None

        return wait_until(ended, deadline_s, f"{job_id} to end")  # type: ignore[return-value]
