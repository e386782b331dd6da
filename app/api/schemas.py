"""The shapes of answers, for the OpenAPI document. Answers are not made from these; tests compare the two."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Status = Literal["queued", "running", "succeeded", "failed", "canceled", "expired"]
JobId = Field(pattern=r"^job_[0-9a-f]{32}$")
EndpointId = Field(pattern=r"^whk_[0-9a-f]{32}$")
Secret = Field(
    pattern=r"^whsec_[A-Za-z0-9+/]{43}=$",
    description="What signs, after Standard Webhooks: give it to the receiver, and to nobody else.",
)


class _Shape(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Progress(_Shape):
    """The last thing a running model said of itself."""

    fraction: float = Field(ge=0, le=1)
    message: str | None


class JobFailure(BaseModel):
    """Why the job failed. `code` is stable."""

    code: str
    message: str


class Attempt(_Shape):
    """One run of the job on one worker."""

    attempt: int = Field(description="The model's errors up to and with this run.")
    outcome: Literal["succeeded", "error", "canceled", "crashed", "timeout", "lost", "released"]
    error_code: str | None
    worker_id: str
    pool: str | None
    device: str | None
    started_at: datetime
    ended_at: datetime
    batch_size: int | None
    device_seconds: float


class Metrics(_Shape):
    """Where the time went, in seconds."""

    queue_time: float | None
    run_time: float | None
    total_time: float | None
    batch_size: int | None


class Usage(_Shape):
    """What the job took."""

    units: int | None
    unit: str
    device: str | None
    device_seconds: float | None


class JobUrls(_Shape):
    """Where to go from here."""

    get: str
    cancel: str
    events: str


class Job(_Shape):
    """A job. No status is ever added; detail is in `status_reason`."""

    id: str = JobId
    object: Literal["job"]
    model: str
    version: str
    status: Status
    status_reason: str | None
    queue_position: int | None
    eta_s: float | None
    progress: Progress | None
    input: Any = Field(description="As submitted; null once erased.")
    output: Any = Field(description="What the model answered; null unless `succeeded`.")
    error: JobFailure | None
    attempts: list[Attempt] | None = Field(description="Oldest first; null in lists.")
    metrics: Metrics
    usage: Usage
    priority: Literal["high", "normal", "low"]
    use_case: str | None
    metadata: dict[str, str]
    batch_id: str | None
    custom_id: str | None
    retry_of: str | None
    created_at: datetime
    started_at: datetime | None
    completed_at: datetime | None
    expires_at: datetime
    erased_at: datetime | None
    urls: JobUrls


class JobList(_Shape):
    """A page of jobs, newest first. The next one begins `after` the last id."""

    object: Literal["list"]
    data: list[Job]
    first_id: str | None
    last_id: str | None
    has_more: bool


class WebhookEndpoint(_Shape):
    """A URL that is called for the events it subscribes to."""

    id: str = EndpointId
    object: Literal["webhook_endpoint"]
    url: str
    events: list[str]
    description: str
    status: Literal["enabled", "disabled"]
    disabled_reason: Literal["gone", "failing", "by_request"] | None = Field(
        description="`gone`: it answered 410. `failing`: for five days, without a success."
    )
    failing_since: datetime | None = Field(description="Null if the last delivery succeeded.")
    previous_secret_expires_at: datetime | None = Field(
        description="Until when the secret before the last rotation signs, too."
    )
    created_at: datetime
    updated_at: datetime


class WebhookEndpointWithSecret(WebhookEndpoint):
    """A webhook endpoint with its new secret, which is shown this once."""

    secret: str = Secret


class WebhookEndpointList(_Shape):
    """A page of webhook endpoints, newest first. The next one begins `after` the last id."""

    object: Literal["list"]
    data: list[WebhookEndpoint]
    first_id: str | None
    last_id: str | None
    has_more: bool


class WebhookEndpointDeleted(_Shape):
    """It is gone."""

    id: str = EndpointId
    object: Literal["webhook_endpoint"]
    deleted: Literal[True]


class WebhookSecret(_Shape):
    """The tenant's default secret: it signs the webhooks of URLs that were given with a job."""

    object: Literal["webhook_secret"]
    secret: str = Secret
    previous_secret_expires_at: datetime | None = Field(
        description="Until when the secret before the last rotation signs, too."
    )


class WebhookAttempt(_Shape):
    """One try. Of the receiver's answer only the status is kept."""

    attempt: int = Field(description="Counted anew from 1 by a redelivery.")
    started_at: datetime
    status_code: int | None = Field(description="Null if there was no answer.")
    latency_s: float | None
    error: str | None = Field(
        description="Null for a success; else `http_status`, `redirect`, `gone`, `timeout`,"
        " `connection_refused`, `connection_failed`, `dns`, `tls`, `blocked`, `invalid_response` or"
        " `sender_lost`, `internal_error` (ours)."
    )


class WebhookDelivery(_Shape):
    """One event for one URL. Its id is the `webhook-id` that the receiver sees, over all tries."""

    id: str = Field(pattern=r"^dlv_[0-9a-f]{32}$")
    object: Literal["webhook_delivery"]
    event: str
    endpoint_id: str | None = Field(description="Null if the URL was given with the job or the batch.")
    url: str = Field(description="As it was when the event happened.")
    job_id: str | None = Field(description="Null unless it tells of a job.")
    batch_id: str | None = Field(description="Null unless it tells of a batch.")
    status: Literal["pending", "sending", "delivered", "failed", "canceled"]
    next_attempt_at: datetime | None = Field(description="Null unless `pending`.")
    attempts: list[WebhookAttempt] | None = Field(description="Oldest first; null in lists.")
    error: str | None = Field(
        description="Null unless `failed`: the last attempt's error, `endpoint_disabled`, `job_gone` or "
        "`batch_gone`."
    )
    created_at: datetime
    completed_at: datetime | None


class WebhookDeliveryList(_Shape):
    """A page of deliveries, newest first. The next one begins `after` the last id."""

    object: Literal["list"]
    data: list[WebhookDelivery]
    first_id: str | None
    last_id: str | None
    has_more: bool


class WebhookRecovery(_Shape):
    """How many deliveries were queued again."""

    object: Literal["recovery"]
    endpoint_id: str = EndpointId
    since: datetime
    count: int


class Model(_Shape):
    """A model: OpenAI's four members, and what a client of ours needs to use it."""

    id: str = Field(description="`name`, or `name@version` if it was asked for so.")
    object: Literal["model"]
    created: int = Field(description="Unix seconds.")
    owned_by: str
    version: str
    versions: list[str] = Field(description="Every registered version, newest first.")
    description: str
    device: Literal["cpu", "gpu", "remote"]
    unit: str
    max_batch_items: int
    max_batch_units: int | None
    execution_timeout_s: float
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]


class ModelList(_Shape):
    """Every model, by name."""

    object: Literal["list"]
    data: list[Model]


class Worker(_Shape):
    """One worker process."""

    id: str
    object: Literal["worker"]
    name: str
    host: str
    pid: int
    pool: str
    purchase: Literal["on_demand", "spot"]
    device: str
    queues: list[str]
    state: Literal["ready", "draining", "stopped", "dead"]
    drain_cause: Literal["sigterm", "notice", "cordon", "operator"] | None = Field(
        description="Why it claims nothing any more."
    )
    drain_until: datetime | None = Field(description="When it has to be gone, if that is known.")
    model: str | None = Field(description="`name@version` of the micro-batch it runs now.")
    batch_size: int
    models: dict[str, Any] = Field(description="What it has loaded, and what it could not load.")
    started_at: datetime
    heartbeat_at: datetime


class WorkerList(_Shape):
    """Every worker process heard of lately, newest first."""

    object: Literal["list"]
    data: list[Worker]


class Tenant(_Shape):
    """Who shares the system. A limit that is null is the server's default; 0 is no limit."""

    id: str = Field(description="Its name.")
    object: Literal["tenant"]
    weight: int
    requests_per_minute: int | None
    key_requests_per_minute: int | None
    queued_jobs: int | None
    in_flight_jobs: int | None
    stored_bytes: int | None
    disabled_at: datetime | None = Field(description="Since when none of its keys works.")
    created_at: datetime


class TenantList(_Shape):
    """A page of tenants, newest first. The next one begins `after` the last id."""

    object: Literal["list"]
    data: list[Tenant]
    first_id: str | None
    last_id: str | None
    has_more: bool


class ApiKey(_Shape):
    """A tenant's key, without its secret."""

    id: str = Field(description="The middle part of `hr_<keyid>_<secret>`.")
    object: Literal["api_key"]
    tenant: str
    name: str
    scopes: list[str]
    live: bool = Field(description="Neither revoked nor expired, and its tenant is not disabled.")
    requests_per_minute: int | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None = Field(description="To the minute or so.")


class ApiKeyWithSecret(ApiKey):
    """A new key, whole, which is shown this once."""

    key: str = Field(pattern=r"^hr_[A-Za-z0-9]+_[A-Za-z0-9]+$")


class ApiKeyList(_Shape):
    """A page of a tenant's keys, newest first. The next one begins `after` the last id."""

    object: Literal["list"]
    data: list[ApiKey]
    first_id: str | None
    last_id: str | None
    has_more: bool


class AuditLine(_Shape):
    """What an operator did."""

    id: str
    object: Literal["audit_line"]
    at: datetime
    actor: str = Field(description="`key:ID`, or `cli:ACCOUNT@MACHINE`.")
    action: str
    subject: str
    details: dict[str, Any]


class AuditList(_Shape):
    """A page of the audit log, newest first. The next one begins `after` the last id."""

    object: Literal["list"]
    data: list[AuditLine]
    first_id: str | None
    last_id: str | None
    has_more: bool


class Embedding(_Shape):
    """One text's vector."""

    object: Literal["embedding"]
    index: int = Field(description="The text's place in the request, from 0.")
    embedding: list[float] | str = Field(description="Numbers, or base64 of little-endian float32.")


class EmbeddingUsage(_Shape):
    """What the texts took, in the model's unit."""

    prompt_tokens: int
    total_tokens: int


class EmbeddingList(_Shape):
    """The vectors, in the order of the texts."""

    object: Literal["list"]
    data: list[Embedding]
    model: str
    usage: EmbeddingUsage


class File(_Shape):
    """A file, in OpenAI's shape."""

    id: str = Field(pattern=r"^file_[0-9a-f]{32}$")
    object: Literal["file"]
    bytes: int
    created_at: int = Field(description="Unix seconds.")
    expires_at: int | None = Field(description="Unix seconds. Null: it is kept until it is deleted.")
    filename: str
    purpose: Literal["batch", "vision", "user_data", "batch_output", "job_output"]
    status: Literal["processed"] = Field(description="Always: there is no file before it is whole.")
    status_details: None
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="Of its content, in hex.")


class FileList(_Shape):
    """A page of files. The next one begins `after` the last id."""

    object: Literal["list"]
    data: list[File]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FileDeleted(_Shape):
    """It is gone."""

    id: str = Field(pattern=r"^file_[0-9a-f]{32}$")
    object: Literal["file"]
    deleted: Literal[True]


class BatchError(_Shape):
    """What is wrong with a line."""

    code: str
    line: int | None = Field(description="Counted from 1. Null: it is the file as a whole.")
    message: str
    param: str | None = Field(description="Where in the line.")


class BatchErrors(_Shape):
    """The first wrong lines: 1,000 at most, 10 in lists. The error file has all of them."""

    object: Literal["list"]
    data: list[BatchError]


class BatchRequestCounts(_Shape):
    """Jobs. `failed` is whatever ended otherwise: at the end, with `completed`, it is the total."""

    total: int
    completed: int
    failed: int


class BatchCounts(_Shape):
    """Jobs, by what became of them. Of one instant: they sum up to the total."""

    queued: int
    running: int
    succeeded: int
    errored: int
    canceled: int
    expired: int


class BatchProgress(_Shape):
    """How far it is."""

    fraction: float = Field(ge=0, le=1)
    rate_per_s: float | None = Field(description="Jobs that ended a second, lately. Null unless it runs.")
    eta_s: float | None = Field(description="Seconds until the rest is done at this rate.")


class BatchUrls(_Shape):
    """Where to go from here."""

    get: str
    cancel: str
    retry: str
    results: str


class Batch(_Shape):
    """A batch: OpenAI's members, and ours from `counts` on. Times are Unix seconds."""

    id: str = Field(pattern=r"^batch_[0-9a-f]{32}$")
    object: Literal["batch"]
    endpoint: Literal["/v1/jobs", "/v1/embeddings"]
    errors: BatchErrors | None
    input_file_id: str = Field(
        pattern=r"^(file_[0-9a-f]{32})?$",
        description="Of a retry, empty until what runs again is gathered.",
    )
    completion_window: str
    status: Literal[
        "validating",
        "failed",
        "in_progress",
        "finalizing",
        "completed",
        "expired",
        "cancelling",
        "cancelled",
    ]
    output_file_id: str | None = Field(description="The lines of jobs that succeeded.")
    error_file_id: str | None = Field(description="The lines of all others, the wrong ones among them.")
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: BatchRequestCounts
    metadata: dict[str, str]
    counts: BatchCounts
    progress: BatchProgress
    on_invalid: Literal["fail", "skip"]
    invalid: int = Field(description="How many lines are wrong.")
    dry_run: bool
    estimate: dict[str, Any] | None = Field(description="What it would take, of a dry run.")
    retry_of: str | None
    urls: BatchUrls


class BatchList(_Shape):
    """A page of batches, newest first. The next one begins `after` the last id."""

    object: Literal["list"]
    data: list[Batch]
    first_id: str | None
    last_id: str | None
    has_more: bool


class FieldProblem(_Shape):
    """One wrong place in a request."""

    pointer: str = Field(description="JSON pointer into the body; /query/… for a query parameter.")
    code: str
    message: str


class OpenAIError(_Shape):
    """The same error for OpenAI's clients."""

    message: str
    type: str
    param: str | None
    code: str


class Check(_Shape):
    """One service this server needs."""

    ok: bool
    reason: str | None


class Readiness(_Shape):
    """Whether this server can do its work. Without Redis it can, only slower: `degraded`."""

    status: Literal["ready", "degraded"]
    checks: dict[str, Check]


class Liveness(_Shape):
    """The process is alive."""

    status: Literal["ok"]


class Index(_Shape):
    """Where things are."""

    name: Literal["headrace"]
    version: str
    docs: str
    openapi: str


class Problem(_Shape):
    """An error (RFC 9457)."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str = Field(description="Stable. Match on this.")
    request_id: str | None
    retryable: bool
    errors: list[FieldProblem]
    error: OpenAIError
    checks: dict[str, Check] | None = None
