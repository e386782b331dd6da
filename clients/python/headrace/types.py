"""The JSON objects of the API that stay dicts here: what is sent, and the parts of records.

A key that an older server does not send is missing, and one that a newer server adds is there.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, TypeAlias, TypedDict

JobStatus: TypeAlias = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
Priority: TypeAlias = Literal["high", "normal", "low"]
JobWebhookEvent: TypeAlias = Literal["started", "completed"]
"""What a job's own `webhook` may be called for."""
WebhookEventType: TypeAlias = Literal[
    "job.started",
    "job.completed",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "endpoint.disabled",
]
"""What an endpoint can subscribe to. `endpoint.test` comes only when asked for."""
FilePurpose: TypeAlias = Literal["batch", "vision", "user_data", "batch_output", "job_output"]
"""What a file is for: the input of a batch, or media in jobs' inputs. The last two are the server's."""
BatchStatus: TypeAlias = Literal[
    "validating",
    "in_progress",
    "finalizing",
    "completed",
    "failed",
    "expired",
    "cancelling",
    "cancelled",
]
OnInvalid: TypeAlias = Literal["fail", "skip"]
"""What becomes of a batch whose file has wrong lines: nothing is run, or only the good ones are."""
EndpointStatus: TypeAlias = Literal["enabled", "disabled"]
DeliveryStatus: TypeAlias = Literal["pending", "sending", "delivered", "failed", "canceled"]

Scope: TypeAlias = Literal[
    "jobs:read",
    "jobs:write",
    "batches:read",
    "batches:write",
    "files:read",
    "files:write",
    "webhooks:read",
    "webhooks:write",
    "admin",
]
"""What a key may do. `admin` is the operator's, over all tenants."""


class TenantLimits(TypedDict, total=False):
    """How much a tenant may have. None is the server's default, 0 is no limit."""

    requests_per_minute: int | None
    key_requests_per_minute: int | None
    queued_jobs: int | None
    in_flight_jobs: int | None
    stored_bytes: int | None


class Policy(TypedDict, total=False):
    """How long a job may queue and run, in seconds."""

    queue_ttl_s: float
    execution_timeout_s: float


class Retry(TypedDict, total=False):
    """How the model's own errors are retried. Worker loss is counted apart and costs no attempt."""

    max_attempts: int
    initial_delay_ms: int
    max_delay_ms: int


class SubmitOptions(TypedDict, total=False):
    """What `Client.run` passes on to `Client.submit`."""

    version: str | None
    priority: Priority | None
    webhook: str | None
    webhook_events_filter: Sequence[JobWebhookEvent] | None
    policy: Policy | None
    retry: Retry | None
    use_case: str | None
    metadata: Mapping[str, str] | None
    idempotency_key: str | None


class Failure(TypedDict, total=False):
    """Why a job failed. `code` is stable and made for programs."""

    code: str
    message: str
    retryable: bool


class Progress(TypedDict, total=False):
    """How far a running job says it is."""

    fraction: float
    message: str | None


class Attempt(TypedDict, total=False):
    """One run of a job on one worker."""

    attempt: int
    outcome: str
    error_code: str | None
    worker_id: str
    pool: str | None
    device: str | None
    started_at: str
    ended_at: str
    batch_size: int | None
    device_seconds: float


class DeliveryAttempt(TypedDict, total=False):
    """One try of a delivery. `error` is None if the receiver answered 2xx."""

    attempt: int
    started_at: str
    status_code: int | None
    latency_s: float | None
    error: str | None


class Metrics(TypedDict, total=False):
    """Where a job's time went, in seconds."""

    queue_time: float | None
    run_time: float | None
    total_time: float | None
    batch_size: int | None


class Usage(TypedDict, total=False):
    """What a job took."""

    units: int | None
    unit: str | None
    device: str | None
    device_seconds: float | None


class BatchOptions(TypedDict, total=False):
    """What `Batches.run` passes on to `Batches.submit`."""

    endpoint: str | None
    completion_window: str | None
    metadata: Mapping[str, str] | None
    on_invalid: OnInvalid | None
    dry_run: bool | None
    webhook: str | None
    idempotency_key: str | None
    on_upload: Callable[[int, int], object] | None


class BatchCounts(TypedDict, total=False):
    """Where a batch's jobs are. The sum is their total, at every instant."""

    queued: int
    running: int
    succeeded: int
    errored: int
    canceled: int
    expired: int


class BatchProgress(TypedDict, total=False):
    """How far a batch is: `fraction` of 1, jobs that end per second, seconds until all have."""

    fraction: float
    rate_per_s: float | None
    eta_s: float | None


class Estimate(TypedDict, total=False):
    """What a dry run found: good and wrong lines, how many for each model, and how long they might take."""

    valid: int
    invalid: int
    models: Mapping[str, Any]
    seconds: float | None


Json: TypeAlias = Any
"""A model's input or output: whatever JSON its schema says."""
