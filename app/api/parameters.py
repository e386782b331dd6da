"""The parameters, headers and errors that several operations share."""

from enum import StrEnum

from app.api.operation import Parameter
from app.domain.batch_states import BatchStatus
from app.domain.delivery import DeliveryStatus, Event
from app.domain.states import JobStatus
from app.intake.file_request import MAX_FILES, Order, Purpose
from app.intake.query import DEFAULT_LIMIT, MAX_LIMIT

JOB_ID = Parameter("job_id", "path", "The job's id.", {"type": "string", "pattern": "^job_[0-9a-f]{32}$"})
WORKER_ID = Parameter(
    "worker_id", "path", "The worker process's id.", {"type": "string", "pattern": "^worker_[0-9a-f]{32}$"}
)
ENDPOINT_ID = Parameter(
    "endpoint_id", "path", "The webhook endpoint's id.", {"type": "string", "pattern": "^whk_[0-9a-f]{32}$"}
)
DELIVERY_ID = Parameter(
    "delivery_id",
    "path",
    "The delivery's id: the `webhook-id` that its receiver sees.",
    {"type": "string", "pattern": "^dlv_[0-9a-f]{32}$"},
)
FILE_ID = Parameter("file_id", "path", "The file's id.", {"type": "string", "pattern": "^file_[0-9a-f]{32}$"})
BATCH_ID = Parameter(
    "batch_id", "path", "The batch's id.", {"type": "string", "pattern": "^batch_[0-9a-f]{32}$"}
)
RANGE = Parameter(
    "Range",
    "header",
    "`bytes=0-99`: only this part. Several parts, or what can't be read, get all of it.",
    {"type": "string", "examples": ["bytes=0-99", "bytes=100-", "bytes=-100"]},
)
IF_RANGE = Parameter(
    "If-Range", "header", "The `ETag` you know: with another, all is sent and not the range."
)
IF_NONE_MATCH = Parameter("If-None-Match", "header", "The `ETag` you know: with the same, nothing is sent.")
MODEL = Parameter("model", "path", "`name`, or `name@version`.")
IDEMPOTENCY_KEY = Parameter(
    "Idempotency-Key",
    "header",
    "Makes repeating safe: the same key and body get the first answer again. Kept for a day or more.",
    {"type": "string", "minLength": 1, "maxLength": 255, "pattern": r"^[\x20-\x7e]+$"},
)
PREFER = Parameter(
    "Prefer",
    "header",
    "`wait=N`: hold the answer until the job has ended, N seconds at most.",
    {"type": "string", "examples": ["wait=10"]},
)
CONTENT_ENCODING = Parameter(
    "Content-Encoding",
    "header",
    "`gzip` for a compressed body.",
    {"type": "string", "enum": ["identity", "gzip"]},
)
LAST_EVENT_ID = Parameter("Last-Event-ID", "header", "The id of the last event you saw; only news follows.")

BODY_ERRORS = (
    "invalid_json",
    "invalid_utf8",
    "invalid_encoding",
    "json_too_deep",
    "bad_request",
    "body_too_large",
    "unsupported_media_type",
)
FULL_ERRORS = ("job_quota_exceeded", "overloaded")
"""Of what makes jobs."""
ACCEPTED_HEADERS = ("Location", "Retry-After", "Preference-Applied", "Idempotent-Replayed")
MADE_HEADERS = ("Location", "Idempotent-Replayed")
ENDED_HEADERS = ("Location", "Preference-Applied", "Idempotent-Replayed")

_MOMENT = {"type": "string", "format": "date-time"}
LIMIT = Parameter(
    "limit",
    "query",
    "The size of a page.",
    {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
)

_METADATA = Parameter(
    "metadata",
    "query",
    "Only those with all of these, 16 at most: `metadata[key]=value`.",
    {"type": "object", "additionalProperties": True},
    {"style": "deepObject", "explode": True},
)


def _made_when(nouns: str) -> tuple[Parameter, Parameter]:
    return (
        Parameter("created_after", "query", f"Only {nouns} made later than this.", _MOMENT),
        Parameter("created_before", "query", f"Only {nouns} made earlier than this.", _MOMENT),
    )


def _after(id: Parameter) -> Parameter:
    return Parameter("after", "query", "The last id of the page before.", id.schema)


def _one_of(name: str, choices: type[StrEnum]) -> Parameter:
    schema = {"type": "string", "enum": [choice.value for choice in choices]}
    return Parameter(name, "query", f"Only this {name}.", schema)


LIST_JOBS = (
    LIMIT,
    _after(JOB_ID),
    _one_of("status", JobStatus),
    Parameter(
        "model", "query", "Only this model: `name`, or `name@version`.", {"type": "string", "minLength": 1}
    ),
    Parameter("batch_id", "query", "Only jobs of this batch.", BATCH_ID.schema),
    *_made_when("jobs"),
    _METADATA,
)
LIST_BATCHES = (
    LIMIT,
    _after(BATCH_ID),
    _one_of("status", BatchStatus),
    *_made_when("batches"),
    _METADATA,
)
LIST_FILES = (
    Parameter(
        "limit",
        "query",
        "The size of a page.",
        {"type": "integer", "minimum": 1, "maximum": MAX_FILES, "default": DEFAULT_LIMIT},
    ),
    _after(FILE_ID),
    Parameter(
        "order",
        "query",
        "By when files were made: `asc` has the oldest first.",
        {"type": "string", "enum": [order.value for order in Order], "default": Order.DESC.value},
    ),
    _one_of("purpose", Purpose),
)
LIST_ENDPOINTS = (LIMIT, _after(ENDPOINT_ID))
LIST_DELIVERIES = (
    LIMIT,
    _after(DELIVERY_ID),
    _one_of("status", DeliveryStatus),
    Parameter("endpoint_id", "query", "Only those for this endpoint.", ENDPOINT_ID.schema),
    Parameter("job_id", "query", "Only those that tell of this job.", JOB_ID.schema),
    _one_of("event", Event),
    *_made_when("deliveries"),
)

HEADERS = {
    "Location": "Where what was made is.",
    "Retry-After": "Seconds after which to look again.",
    "RateLimit-Policy": "The limits of requests that hold for this key, if any (IETF draft).",
    "RateLimit": "What is left of each, and in how many seconds there is more (IETF draft).",
    "Preference-Applied": "`wait=N` if the answer was held.",
    "Idempotent-Replayed": "`true` if an earlier request with this key made it.",
    "X-Request-Id": "The request's id: yours, or a new one.",
    "WWW-Authenticate": "How to authenticate.",
    "Accept-Ranges": "`bytes`: parts can be asked for.",
    "Cache-Control": "Of a file: `private, no-cache`, keep it if you like, and ask with its `ETag`.",
    "Content-Disposition": "`attachment`, with the file's name.",
    "Content-Range": "Which part it is, and of how much.",
    "ETag": "The content's SHA-256, in quotes.",
    "Allow": "The methods of this path.",
}
