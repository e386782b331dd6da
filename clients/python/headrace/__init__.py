"""Headrace: submit inference jobs, then wait, stream or be called back.

    from headrace import Client

    output = Client().run("minilm", {"text": "a sentence"})

Every name below is public and stays; everything else may change without notice.
"""

from headrace import webhooks
from headrace.admin_api import Audit, Keys, Tenants
from headrace.admin_records import ApiKey, AuditLine, Tenant
from headrace.batch import Batch, WrongLine
from headrace.batch_result import BatchResult
from headrace.batches import Batches
from headrace.catalog import Model, Models, Worker, Workers
from headrace.client import Client
from headrace.clock import Clock
from headrace.errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    BatchCancelled,
    BatchError,
    BatchExpired,
    BatchFailed,
    BatchWaitTimeout,
    ChecksumError,
    ConfigError,
    ConflictError,
    FieldError,
    HeadraceError,
    JobCanceled,
    JobError,
    JobExpired,
    JobFailed,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UnsupportedMediaTypeError,
    ValidationError,
    WaitTimeout,
    WebhookVerificationError,
)
from headrace.events import Event
from headrace.files import File, Files
from headrace.job import Job
from headrace.jobs import Jobs
from headrace.types import (
    Attempt,
    BatchCounts,
    BatchOptions,
    BatchProgress,
    BatchStatus,
    DeliveryAttempt,
    DeliveryStatus,
    EndpointStatus,
    Estimate,
    Failure,
    FilePurpose,
    JobStatus,
    JobWebhookEvent,
    Metrics,
    OnInvalid,
    Policy,
    Priority,
    Progress,
    Retry,
    Scope,
    SubmitOptions,
    TenantLimits,
    Usage,
    WebhookEventType,
)
from headrace.version import __version__
from headrace.webhook_api import WebhookDeliveries, Webhooks
from headrace.webhook_records import WebhookDelivery, WebhookEndpoint, WebhookSecret
from headrace.webhooks import WebhookEvent

__all__ = [
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "ApiKey",
    "Attempt",
    "Audit",
    "AuditLine",
    "AuthenticationError",
    "BadRequestError",
    "Batch",
    "BatchCancelled",
    "BatchCounts",
    "BatchError",
    "BatchExpired",
    "BatchFailed",
    "BatchOptions",
    "BatchProgress",
    "BatchResult",
    "BatchStatus",
    "BatchWaitTimeout",
    "Batches",
    "ChecksumError",
    "Client",
    "Clock",
    "ConfigError",
    "ConflictError",
    "DeliveryAttempt",
    "DeliveryStatus",
    "EndpointStatus",
    "Estimate",
    "Event",
    "Failure",
    "FieldError",
    "File",
    "FilePurpose",
    "Files",
    "HeadraceError",
    "Job",
    "JobCanceled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobStatus",
    "JobWebhookEvent",
    "Jobs",
    "Keys",
    "Metrics",
    "Model",
    "Models",
    "NotFoundError",
    "OnInvalid",
    "PayloadTooLargeError",
    "PermissionDeniedError",
    "Policy",
    "Priority",
    "Progress",
    "RateLimitError",
    "Retry",
    "Scope",
    "ServerError",
    "SubmitOptions",
    "Tenant",
    "TenantLimits",
    "Tenants",
    "UnsupportedMediaTypeError",
    "Usage",
    "ValidationError",
    "WaitTimeout",
    "WebhookDeliveries",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
    "WebhookEventType",
    "WebhookSecret",
    "WebhookVerificationError",
    "Webhooks",
    "Worker",
    "Workers",
    "WrongLine",
    "__version__",
    "webhooks",
]
