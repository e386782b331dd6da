"""One batch, as the server described it last."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from headrace.batch_api import BatchApi
from headrace.batch_result import BatchResult
from headrace.clock import Deadline
from headrace.errors import BatchWaitTimeout
from headrace.record import Record
from headrace.types import BatchCounts, BatchProgress, BatchStatus, Estimate, OnInvalid

_ENDED = ("completed", "failed", "expired", "cancelled")
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 2.0


@dataclass(frozen=True)
class WrongLine:
    """What is wrong with one line of a batch's file. `line` is None if it is the file as a whole."""

    line: int | None
    code: str
    message: str
    param: str | None = None

    def __str__(self) -> str:
        where = "the file" if self.line is None else f"line {self.line}"
        return f"{where}: {self.code}: {self.message}"


class Batch(Record):
    """A batch. Attributes are those of the API; they change only when a method here asks the server.

    >>> body = {"model": "echo", "input": {}}
    >>> line = {"custom_id": "a", "method": "POST", "url": "/v1/jobs", "body": body}
    >>> batch = client.batches.create(requests=[line])
    >>> batch.wait(timeout=60).status
    'completed'
    >>> [(result.custom_id, result.output) for result in batch.results()]
    [('a', {})]
    """

    def __init__(self, raw: dict[str, Any], api: BatchApi) -> None:
        super().__init__(raw)
        self._api = api

    @property
    def status(self) -> BatchStatus:
        """`validating → in_progress → finalizing → completed | failed | expired`, or
        `cancelling → cancelled`."""
        status: BatchStatus = self._raw["status"]
        return status

    @property
    def done(self) -> bool:
        """Whether it has ended. What has ended never changes again."""
        return self.status in _ENDED

    @property
    def endpoint(self) -> str:
        """What its lines are for: `/v1/jobs` or `/v1/embeddings`."""
        return str(self._raw.get("endpoint", ""))

    @property
    def input_file_id(self) -> str | None:
        """The file it runs; None while a retry's is being gathered."""
        return self._raw.get("input_file_id") or None

    @property
    def output_file_id(self) -> str | None:
        """The lines that succeeded, in the order of the file. None until it ended, or if there are none."""
        return self._raw.get("output_file_id")

    @property
    def error_file_id(self) -> str | None:
        """The lines that did not. None until it ended, or if there are none."""
        return self._raw.get("error_file_id")

    @property
    def counts(self) -> BatchCounts:
        """Where its jobs are; all zero until its file is validated."""
        return self._raw.get("counts") or BatchCounts()

    @property
    def total(self) -> int:
        """How many jobs it has; 0 until its file is validated."""
        return int((self._raw.get("request_counts") or {}).get("total") or 0)

    @property
    def progress(self) -> BatchProgress:
        """How far it is, how fast, and how long it may take."""
        return self._raw.get("progress") or BatchProgress()

    @property
    def invalid(self) -> int:
        """How many wrong lines its file has."""
        return int(self._raw.get("invalid") or 0)

    @property
    def wrong_lines(self) -> list[WrongLine]:
        """The first of them. `errors()` has them all."""
        found = (self._raw.get("errors") or {}).get("data") or []
        return [
            WrongLine(one.get("line"), str(one.get("code")), str(one.get("message")), one.get("param"))
            for one in found
        ]

    @property
    def on_invalid(self) -> OnInvalid:
        """What wrong lines mean: `fail` the batch, or `skip` them."""
        on_invalid: OnInvalid = self._raw.get("on_invalid") or "fail"
        return on_invalid

    @property
    def dry_run(self) -> bool:
        """Whether it is only validated, and nothing is run."""
        return bool(self._raw.get("dry_run"))

    @property
    def estimate(self) -> Estimate | None:
        """What a dry run found."""
        return self._raw.get("estimate")

    @property
    def metadata(self) -> dict[str, str]:
        """The keys and values it was submitted with."""
        return self._raw.get("metadata") or {}

    @property
    def retry_of(self) -> str | None:
        """The batch whose failures it runs again."""
        return self._raw.get("retry_of")

    @property
    def created_at(self) -> datetime | None:
        """When it was accepted."""
        return self._moment("created_at")

    @property
    def expires_at(self) -> datetime | None:
        """When what is still queued ends as `expired`."""
        return self._moment("expires_at")

    @property
    def ended_at(self) -> datetime | None:
        """When it ended, in whichever way."""
        return self._moment(f"{self.status}_at") if self.done else None

    def refresh(self) -> Self:
        """Ask the server how it is now. Returns itself."""
        self._raw = self._api.fetch(self.id)
        return self

    def wait(
        self, timeout: float | None = None, on_progress: "Callable[[Batch], object] | None" = None
    ) -> Self:
        """Return itself once the batch has ended, in whichever way.

        It is asked after, ever less often, every two seconds at last; `on_progress` is called with it each
        time. Raises `BatchWaitTimeout` after `timeout` seconds; the batch goes on.
        """
        clock = self._api.transport.clock
        deadline, pause = Deadline(clock, timeout), _FIRST_PAUSE_S
        while True:
            if on_progress:
                on_progress(self)
            if self.done:
                return self
            if not deadline.left():
                raise BatchWaitTimeout(self, deadline.timeout or 0.0)
            clock.sleep(min(pause, deadline.left()))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            self._raw = self._api.fetch(self.id, deadline)

    def results(self) -> Iterator[BatchResult]:
        """What became of each line that has ended, in the order of the file, read as it comes.

        While the batch runs, these are those that have ended by now. Broken connections are resumed.
        """
        return map(BatchResult, self._api.results(self.id))

    def errors(self) -> Iterator[BatchResult]:
        """Those lines that did not succeed: wrong ones, and those whose job has no output."""
        self.refresh()
        if self.error_file_id:
            return map(BatchResult, self._api.file_lines(self.error_file_id))
        if self.status == "failed":
            return (BatchResult({"error": one}) for one in (self._raw.get("errors") or {}).get("data") or [])
        return (result for result in self.results() if not result.ok)

    def cancel(self) -> Self:
        """Ask for an end: what is queued ends at once, what is running within one micro-batch.

        Safe to repeat, and without effect on a batch that has ended. Returns itself.
        """
        self._raw = self._api.cancel(self.id)
        return self

    def retry(self, *, idempotency_key: str | None = None) -> "Batch":
        """Run what did not succeed again, as a new batch whose `retry_of` is this one.

        Raises `ConflictError` while it has not ended, or if there is nothing to run again.
        """
        return Batch(self._api.retry(self.id, idempotency_key), self._api)

    def __repr__(self) -> str:
        return f"Batch({self.id!r}, {self.status!r})"
