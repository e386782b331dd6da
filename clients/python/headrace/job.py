"""One job, as the server described it last."""

from collections.abc import Iterator
from datetime import datetime
from typing import Self

from headrace.clock import Deadline
from headrace.errors import JobCanceled, JobExpired, JobFailed, WaitTimeout
from headrace.events import Event
from headrace.job_api import JobApi
from headrace.record import Record
from headrace.types import Attempt, Failure, JobStatus, Json, Metrics, Priority, Progress, Usage

# Below the 60 s that the server allows, because that is also where many proxies give up.
LONGEST_ROUND_S = 50.0

_ENDED_BADLY = {"failed": JobFailed, "canceled": JobCanceled, "expired": JobExpired}


class Job(Record):
    """A job. Attributes are those of the API; they change only when a method here asks the server.

    >>> job = client.submit("echo", {"text": "hello"})
    >>> job.wait(timeout=60).status
    'succeeded'
    >>> job.output
    {'text': 'hello'}
    """

    def __init__(self, raw: dict[str, Json], api: JobApi) -> None:
        super().__init__(raw)
        self._api = api

    @property
    def status(self) -> JobStatus:
        """`queued → running → succeeded | failed | canceled | expired`. No state is ever added."""
        status: JobStatus = self._raw["status"]
        return status

    @property
    def status_reason(self) -> str | None:
        """Why it is in this state, such as `waiting_for_worker` or `retry_backoff`."""
        return self._raw.get("status_reason")

    @property
    def done(self) -> bool:
        """Whether it has ended. What has ended never changes again."""
        return self.status not in ("queued", "running")

    @property
    def model(self) -> str:
        """The model's name, without the version."""
        return str(self._raw.get("model", ""))

    @property
    def version(self) -> str | None:
        """The model's version, fixed when the job was accepted."""
        return self._raw.get("version")

    @property
    def priority(self) -> Priority | None:
        """Which of the waiting jobs goes first: `high`, `normal` or `low`."""
        return self._raw.get("priority")

    @property
    def progress(self) -> Progress | None:
        """How far it said it was, if its model says so."""
        return self._raw.get("progress")

    @property
    def input(self) -> Json:
        """What was submitted; None once deleted."""
        return self._raw.get("input")

    @property
    def output(self) -> Json:
        """What the model answered; None unless `succeeded`. A large one is `{"file_id", "size",
        "sha256"}`."""
        return self._raw.get("output")

    @property
    def error(self) -> Failure | None:
        """Why it failed; None unless `failed`."""
        return self._raw.get("error")

    @property
    def attempts(self) -> list[Attempt]:
        """Every run on a worker, oldest first."""
        return self._raw.get("attempts") or []

    @property
    def metrics(self) -> Metrics:
        """Where the time went."""
        return self._raw.get("metrics") or Metrics()

    @property
    def usage(self) -> Usage:
        """What it took."""
        return self._raw.get("usage") or Usage()

    @property
    def queue_position(self) -> int | None:
        """How many jobs are before it, where the server knows."""
        return self._raw.get("queue_position")

    @property
    def eta_s(self) -> float | None:
        """Seconds until it probably ends, where the server knows."""
        return self._raw.get("eta_s")

    @property
    def use_case(self) -> str | None:
        """What it was for, as submitted."""
        return self._raw.get("use_case")

    @property
    def metadata(self) -> dict[str, str]:
        """The keys and values it was submitted with."""
        return self._raw.get("metadata") or {}

    @property
    def batch_id(self) -> str | None:
        """The batch it belongs to."""
        return self._raw.get("batch_id")

    @property
    def custom_id(self) -> str | None:
        """Its name within the batch."""
        return self._raw.get("custom_id")

    @property
    def retry_of(self) -> str | None:
        """The job that this one tries again."""
        return self._raw.get("retry_of")

    @property
    def urls(self) -> dict[str, str]:
        """Where the server says it can be reached: `get`, `cancel`, `events`."""
        return self._raw.get("urls") or {}

    @property
    def created_at(self) -> datetime | None:
        """When it was accepted."""
        return self._moment("created_at")

    @property
    def started_at(self) -> datetime | None:
        """When a worker first took it."""
        return self._moment("started_at")

    @property
    def completed_at(self) -> datetime | None:
        """When it ended."""
        return self._moment("completed_at")

    @property
    def expires_at(self) -> datetime | None:
        """When it ends as `expired` if it is still queued."""
        return self._moment("expires_at")

    @property
    def erased_at(self) -> datetime | None:
        """When its input, metadata and output were erased."""
        return self._moment("erased_at")

    def refresh(self) -> Self:
        """Ask the server how it is now. Returns itself."""
        self._raw = self._api.fetch(self.id).data
        return self

    def wait(self, timeout: float | None = None) -> Self:
        """Return itself once the job has ended, in whichever way.

        The server holds the request until then, so that the end is seen at once and without
        polling. Raises `WaitTimeout` after `timeout` seconds (rounded up to a whole one); the job
        goes on.
        """
        return self._wait(Deadline(self._api.transport.clock, timeout))

    def result(self, timeout: float | None = None) -> Json:
        """Wait, then return the output.

        Raises `JobFailed`, `JobCanceled` or `JobExpired` if it ended without one, or `WaitTimeout`.
        """
        return self._result(Deadline(self._api.transport.clock, timeout))

    def stream(self) -> Iterator[Event]:
        """Events as they happen: `status`, `progress`, and `completed` last.

        Broken connections are resumed without losing events. When the iteration is over, the job
        has ended and its attributes are current.

        >>> [event.type for event in client.submit("echo", {}).stream()][-1]
        'completed'
        """
        for event in self._api.follow(self.id):
            if event.data.get("object") == "job":
                self._raw = event.data
            yield event
        if not self.done:
            self.refresh()

    def cancel(self) -> Self:
        """Ask for an end: at once if queued, within one micro-batch if running. Returns itself.

        Safe to repeat, and without effect on a job that has ended.
        """
        self._raw = self._api.cancel(self.id)
        return self

    def retry(self) -> "Job":
        """Submit the same again, as a new job whose `retry_of` is this one.

        Raises `ConflictError` while it has not ended.
        """
        return Job(self._api.retry(self.id), self._api)

    def delete(self) -> None:
        """Erase input, metadata and output, for good. The record that there was a job stays.

        Raises `ConflictError` while it has not ended.
        """
        erased: dict[str, Json] = {"input": None, "metadata": {}, "output": None}
        self._raw = self._api.delete(self.id) or {**self._raw, **erased}

    def _wait(self, deadline: Deadline) -> Self:
        clock, policy = self._api.transport.clock, self._api.transport.policy
        short_rounds = 0
        while not self.done:
            asked, began = min(LONGEST_ROUND_S, deadline.left()), clock.now()
            answer = self._api.fetch(self.id, hold=asked, deadline=deadline)
            self._raw = answer.data
            if self.done:
                break
            if not deadline.left():
                raise WaitTimeout(self, deadline.timeout or 0.0)
            if clock.now() - began >= asked / 2:
                short_rounds = 0
                continue
            # The server did not hold: it has too many waiters, or a proxy took the header away.
            pause = policy.initial_s * 2 ** min(short_rounds, 3)
            clock.sleep(min(answer.retry_after or pause, deadline.left()))
            short_rounds += 1
        return self

    def _result(self, deadline: Deadline) -> Json:
        status = self._wait(deadline).status
        if status in _ENDED_BADLY:
            raise _ENDED_BADLY[status](self)
        return self.output

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.status!r})"
