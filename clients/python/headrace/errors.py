"""The error tree on one screen. `HeadraceError` catches all that this package raises on purpose.

    HeadraceError
    ├── ConfigError                    no URL or no key, or one that can't be used
    ├── APIConnectionError             no answer: refused, reset, DNS, TLS
    │   └── APITimeoutError            no answer in time
    ├── APIError                       the server answered, and it is not what was asked for
    │   ├── BadRequestError            400
    │   ├── AuthenticationError        401
    │   ├── PermissionDeniedError      403
    │   ├── NotFoundError              404  (also: someone else's)
    │   ├── ConflictError              409
    │   ├── PayloadTooLargeError       413
    │   ├── UnsupportedMediaTypeError  415
    │   ├── ValidationError            422  `errors` names each wrong field
    │   ├── RateLimitError             429
    │   └── ServerError                5xx
    ├── JobError                       the job ended, but has no output
    │   ├── JobFailed
    │   ├── JobCanceled
    │   └── JobExpired
    ├── WaitTimeout                    the job goes on; only the waiting ended
    ├── BatchError                     the batch ended before all of its lines were run
    │   ├── BatchFailed                its file has wrong lines: nothing was run
    │   ├── BatchCancelled
    │   └── BatchExpired
    ├── BatchWaitTimeout               the batch goes on; only the waiting ended
    ├── ChecksumError                  a file did not arrive as it was sent
    └── WebhookVerificationError       a webhook that is not to be believed

No message ever holds the API key. Whatever the SDK retries was already retried when one is raised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from headrace.batch import Batch
    from headrace.job import Job


class HeadraceError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(HeadraceError):
    """The server's URL or the API key is missing or can't be used."""


class APIConnectionError(HeadraceError):
    """The server could not be reached, or the connection broke before the answer was complete.

    `retryable` is False where trying again can't help, such as a wrong certificate.
    """

    def __init__(self, message: str, retryable: bool = True) -> None:
        self.retryable = retryable
        super().__init__(message, retryable)

    def __str__(self) -> str:
        return str(self.args[0])


class APITimeoutError(APIConnectionError):
    """The server did not answer within the client's `timeout`."""


@dataclass(frozen=True)
class FieldError:
    """One wrong place in a request. `pointer` is a JSON pointer (RFC 6901) into the body."""

    pointer: str
    code: str
    message: str

    def __str__(self) -> str:
        return f"{self.pointer}: {self.message}" if self.pointer else self.message


class APIError(HeadraceError):
    """The server answered with an error (RFC 9457 problem details).

    `code` is stable and made for programs; `detail` is made for people. `retryable` is the server's
    own opinion. `retry_after` is in seconds, where the server said when to come back.
    """

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        request_id: str | None = None,
        errors: tuple[FieldError, ...] = (),
        retryable: bool = False,
        retry_after: float | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.detail = detail
        self.request_id = request_id
        self.errors = errors
        self.retryable = retryable
        self.retry_after = retry_after
        # All of it in `args`, so that the error survives pickling between processes.
        super().__init__(status, code, detail, request_id, errors, retryable, retry_after)

    def __str__(self) -> str:
        fields = "; ".join(map(str, self.errors))
        request = f" (request {self.request_id})" if self.request_id else ""
        return f"{self.status} {self.code}: {fields or self.detail}{request}"


class BadRequestError(APIError):
    """400: the request could not be read."""


class AuthenticationError(APIError):
    """401: no key, or one that is unknown, revoked or expired."""


class PermissionDeniedError(APIError):
    """403: the key lacks the scope."""


class NotFoundError(APIError):
    """404: there is no such thing for this tenant."""


class ConflictError(APIError):
    """409: the state of the thing does not allow it."""


class PayloadTooLargeError(APIError):
    """413: the body is over a limit."""


class UnsupportedMediaTypeError(APIError):
    """415: the server does not read this content type or encoding."""


class ValidationError(APIError):
    """422: read, but not acceptable; `errors` names each wrong field."""


class RateLimitError(APIError):
    """429: over a limit of the key or the tenant; `retry_after` says when to come back."""


class ServerError(APIError):
    """5xx: the server's fault, or that of a proxy before it."""


class JobError(HeadraceError):
    """The job ended without an output. `job` has all that is known about it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        super().__init__(job)

    def __str__(self) -> str:
        error = self.job.error
        why = f": {error.get('code')}: {error.get('message')}" if error else ""
        return f"{self.job.id} {self.job.status}{why}"


class JobFailed(JobError):
    """The model gave an error, or kept crashing its workers; `job.error` says which."""


class JobCanceled(JobError):
    """Someone canceled the job."""


class JobExpired(JobError):
    """The job was still queued when its `queue_ttl_s` was over."""


class WaitTimeout(HeadraceError):
    """The job had not ended in time. It goes on: `job.wait()` again, or `job.cancel()`."""

    def __init__(self, job: Job, timeout: float) -> None:
        self.job = job
        self.timeout = timeout
        super().__init__(job, timeout)

    def __str__(self) -> str:
        why = f" ({self.job.status_reason})" if self.job.status_reason else ""
        return f"{self.job.id} is still {self.job.status}{why} after {self.timeout:g} s"


class BatchError(HeadraceError):
    """The batch ended before all of its lines were run. `batch` has all that is known about it."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        super().__init__(batch)

    def __str__(self) -> str:
        counts = self.batch.counts
        missing = counts.get("canceled", 0) + counts.get("expired", 0)
        return f"{self.batch.id} {self.batch.status}: {missing} of its jobs did not run"


class BatchFailed(BatchError):
    """The file was refused, and nothing was run; or it changed in the storage meanwhile.

    `batch.wrong_lines` are the first wrong lines, `batch.errors()` are all of them."""

    _SHOWN = 3

    def __str__(self) -> str:
        wrong = self.batch.wrong_lines
        more = max(self.batch.invalid, len(wrong)) - self._SHOWN
        shown = [*map(str, wrong[: self._SHOWN]), *([f"and {more} more"] if more > 0 else [])]
        if wrong and (wrong[0].line, wrong[0].code) == (1, "invalid_json_line"):
            # A CSV file, or JSON over many lines.
            shown.append("a file has one JSON value a line, as jq -c '.[]' writes those of an array")
        return f"{self.batch.id} failed: {'; '.join(shown)}"


class BatchCancelled(BatchError):
    """Someone cancelled the batch. What had ended before has its results."""


class BatchExpired(BatchError):
    """Its `completion_window` was over. What had ended before has its results."""


class BatchWaitTimeout(HeadraceError):
    """The batch had not ended in time. It goes on: `batch.wait()` again, or `batch.cancel()`."""

    def __init__(self, batch: Batch, timeout: float) -> None:
        self.batch = batch
        self.timeout = timeout
        super().__init__(batch, timeout)

    def __str__(self) -> str:
        return f"{self.batch.id} is still {self.batch.status} after {self.timeout:g} s"


class ChecksumError(HeadraceError):
    """What arrived is not what was sent, or a file changed while it was read."""


class WebhookVerificationError(HeadraceError):
    """A received webhook is not to be believed. Answer it with 400.

    `reason` is stable and made for programs: `missing_header`, `invalid_timestamp`, `too_old`,
    `too_new`, `no_signature`, `wrong_signature` or `invalid_body`. `detail` is made for people. Neither
    holds a secret, or what would have been the right signature.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        self.detail = detail
        super().__init__(reason, detail)

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"
