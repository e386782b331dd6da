"""The body of `POST /v1/jobs`, and of every line of a batch for that URL."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from app.domain.egress import EgressPolicy
from app.intake.shapes import Part, Text, Url, read_as

MAX_METADATA_PAIRS = 16
MAX_METADATA_KEY = 64
MAX_METADATA_VALUE = 512


def _metadata(value: Any) -> Any:
    if not value:
        return value
    if not isinstance(value, dict):
        raise PydanticCustomError("wrong_type", "must be an object of strings")
    if len(value) > MAX_METADATA_PAIRS:
        raise PydanticCustomError("too_long", f"must have at most {MAX_METADATA_PAIRS} pairs")
    for key, item in value.items():
        if not 0 < len(key) <= MAX_METADATA_KEY or "\0" in key:
            raise PydanticCustomError("too_long", f"keys must have 1 to {MAX_METADATA_KEY} characters")
        if isinstance(item, str) and len(item) > MAX_METADATA_VALUE:
            raise PydanticCustomError("too_long", f"values must have at most {MAX_METADATA_VALUE} characters")
    return value


Metadata = Annotated[
    dict[str, Text],
    BeforeValidator(_metadata),
    Field(
        description=f"At most {MAX_METADATA_PAIRS} pairs, keys of {MAX_METADATA_KEY} characters,"
        f" values of {MAX_METADATA_VALUE}."
    ),
]
"""What a client notes on a job or a batch."""

WebhookEvent = Literal["started", "completed"]


class Policy(Part):
    """How long a job may queue and run."""

    queue_ttl_s: float = Field(
        86_400, gt=0, le=604_800, description="Seconds in the queue after which it ends as `expired`."
    )
    execution_timeout_s: float | None = Field(
        None,
        gt=0,
        le=86_400,
        description="Seconds a run may take; the model's own limit holds if it is less.",
    )


class Retry(Part):
    """How the model's own errors are retried. Worker loss is counted apart and costs no attempt."""

    max_attempts: int = Field(3, ge=1, le=20)
    initial_delay_ms: int = Field(1000, ge=0, le=3_600_000)
    max_delay_ms: int = Field(60_000, ge=0, le=86_400_000)


class JobRequest(Part):
    """What to run, and how. A member that is null counts as absent."""

    model: Text = Field(min_length=1, max_length=257, description="`name`, or `name@version`.")
    version: Text | None = Field(
        None,
        min_length=1,
        max_length=128,
        description="The current one if absent; fixed on the job at submit.",
    )
    input: Any = Field(description="What the model's input schema says (see `GET /v1/models`).")
    priority: Literal["high", "normal", "low"] | None = "normal"
    webhook: Url | None = Field(None, description="https URL that is told of the job's events.")
    webhook_events_filter: list[WebhookEvent] | None = Field(
        None, max_length=8, description="Which events it is told of; `completed` alone if absent."
    )
    policy: Policy | None = None
    retry: Retry | None = None
    use_case: Text | None = Field(None, max_length=128, description="What it is for, in your words.")
    metadata: Metadata | None = None


def read(body: Any, policy: EgressPolicy) -> JobRequest:
    """The request, every default filled in. `policy` says which webhooks may be called.

    Raises `Invalid` naming each wrong place.
    """
    return read_as(JobRequest, body, policy)
