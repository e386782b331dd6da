"""What users may import and call is written down here: a change of it fails on purpose."""

import inspect
from importlib.metadata import version
from pathlib import Path

import headrace
import pytest

EXPORTED = {
    "APIConnectionError",
    "APIError",
    "APITimeoutError",
    "ApiKey",
    "Attempt",
    "Audit",
    "AuditLine",
    "AuthenticationError",
    "WrongLine",
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
    "__version__",
    "webhooks",
}

MEMBERS = {
    headrace.Client: "base_url close run submit",
    headrace.Files: "content create delete download get list",
    headrace.File: "bytes created_at expires_at filename id purpose raw sha256",
    headrace.Batches: "cancel create errors get list results retry run submit",
    headrace.Batch: """cancel counts created_at done dry_run ended_at endpoint error_file_id errors
        estimate expires_at id input_file_id invalid metadata on_invalid output_file_id progress raw refresh
        results retry retry_of status total wait wrong_lines""",
    headrace.BatchResult: "body custom_id error id line ok output raw status_code",
    headrace.Job: """attempts batch_id cancel completed_at created_at custom_id delete done erased_at
        error eta_s expires_at id input metadata metrics model output priority progress queue_position
        raw refresh result retry retry_of started_at status status_reason stream urls usage use_case
        version wait""",
    headrace.Jobs: "cancel delete get list retry",
    headrace.Models: "get list",
    headrace.Model: "created_at description id raw version versions",
    headrace.Workers: "list",
    headrace.Worker: "heartbeat_at id model name pool purchase raw state",
    headrace.Webhooks: """create default_secret delete get list recover rotate_default_secret
        rotate_secret test update""",
    headrace.WebhookDeliveries: "get list redeliver",
    headrace.WebhookEndpoint: """created_at description disabled_reason events failing_since id
        previous_secret_expires_at raw secret status updated_at url""",
    headrace.WebhookDelivery: """attempts completed_at created_at done endpoint_id error event id job_id
        next_attempt_at raw status tried url""",
    headrace.WebhookEvent: "data id raw timestamp type",
    headrace.Tenants: "create disable enable get list update",
    headrace.Tenant: """created_at disabled disabled_at id in_flight_jobs key_requests_per_minute queued_jobs
        raw requests_per_minute stored_bytes weight""",
    headrace.Keys: "create list revoke rotate",
    headrace.ApiKey: """created_at expires_at id key last_used_at live name raw requests_per_minute revoked_at
        scopes tenant""",
    headrace.Audit: "list",
    headrace.AuditLine: "action actor at details id raw subject",
}

SIGNATURES = {
    headrace.Client: "base_url api_key timeout max_retries clock",
    headrace.Client.run: "self model input timeout options",
    headrace.Client.submit: """self model input version priority webhook webhook_events_filter policy
        retry use_case metadata idempotency_key wait""",
    headrace.Jobs.list: """self status model created_after created_before metadata after limit""",
    headrace.Job.wait: "self timeout",
    headrace.Files.create: "self file purpose expires_after filename idempotency_key on_progress",
    headrace.Files.list: "self purpose after limit",
    headrace.Files.download: "self file_id path on_progress",
    headrace.Batches.run: "self source model timeout on_progress options",
    headrace.Batches.submit: """self source model endpoint completion_window metadata on_invalid dry_run
        webhook idempotency_key on_upload""",
    headrace.Batches.create: """self input_file_id requests endpoint completion_window metadata on_invalid
        dry_run webhook idempotency_key""",
    headrace.Batches.list: "self status created_after created_before metadata after limit",
    headrace.Batch.wait: "self timeout on_progress",
    headrace.Webhooks.create: "self url events description",
    headrace.Webhooks.update: "self endpoint_id url events description status",
    headrace.Webhooks.rotate_secret: "self endpoint_id grace_period_seconds",
    headrace.Webhooks.test: "self endpoint_id wait",
    headrace.Webhooks.recover: "self endpoint_id since",
    headrace.WebhookDeliveries.list: """self status endpoint_id job_id event created_after created_before
        after limit""",
    headrace.Tenants.create: "self tenant weight limits",
    headrace.Tenants.update: "self tenant weight limits",
    headrace.Keys.create: "self tenant name scopes expires_at requests_per_minute",
    headrace.Keys.list: "self tenant after limit",
    headrace.Keys.rotate: "self key_id grace_period_seconds expires_at",
    headrace.Audit.list: "self action after limit",
    headrace.webhooks.verify: "headers body secret tolerance_s now",
    headrace.webhooks.sign: "webhook_id timestamp body secret",
}


def test_the_exported_names_are_these():
    assert set(headrace.__all__) == EXPORTED
    assert all(hasattr(headrace, name) for name in EXPORTED)


@pytest.mark.parametrize("owner", MEMBERS, ids=lambda owner: owner.__name__)
def test_the_public_members_are_these(owner):
    public = {name for name in dir(owner) if not name.startswith("_")}
    assert public == set(MEMBERS[owner].split())


@pytest.mark.parametrize("function", SIGNATURES, ids=lambda function: function.__qualname__)
def test_the_parameters_are_these(function):
    assert list(inspect.signature(function).parameters) == SIGNATURES[function].split()


def test_everything_public_says_what_it_promises_and_has_types():
    for owner, names in MEMBERS.items():
        for name in names.split():
            member = inspect.getattr_static(owner, name)
            function = member.fget if isinstance(member, property) else member
            assert function.__doc__, f"{owner.__name__}.{name} has no docstring"
            assert "return" in function.__annotations__, f"{owner.__name__}.{name} has no types"
    assert (Path(headrace.__file__).parent / "py.typed").exists()


def test_client_has_the_collections():
    client = headrace.Client("http://127.0.0.1:1", "hr_x_y")
    assert isinstance(client.jobs, headrace.Jobs)
    assert isinstance(client.models, headrace.Models)
    assert isinstance(client.files, headrace.Files)
    assert isinstance(client.batches, headrace.Batches)
    assert isinstance(client.workers, headrace.Workers)
    assert isinstance(client.webhooks, headrace.Webhooks)
    assert isinstance(client.tenants, headrace.Tenants)
    assert isinstance(client.keys, headrace.Keys)
    assert isinstance(client.audit, headrace.Audit)
    assert isinstance(client.webhooks.deliveries, headrace.WebhookDeliveries)


def test_receiving_has_a_module_of_its_own():
    assert set(headrace.webhooks.__all__) == {"WebhookEvent", "WebhookVerificationError", "sign", "verify"}


def test_one_version():
    assert headrace.__version__ == version("headrace-client")


def test_the_client_imports_neither_the_server_nor_the_workers():
    package = Path(headrace.__file__).parent
    for module in package.rglob("*.py"):
        for line in module.read_text().splitlines():
            words = line.split()
            if words[:1] in (["import"], ["from"]):
                assert words[1].split(".")[0] not in ("app", "workers"), f"{module}: {line}"
