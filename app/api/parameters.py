"""The parameters, headers and errors that several operations share."""

from app.api.operation import Parameter
from app.domain.states import JobStatus
from app.intake.listing import DEFAULT_LIMIT, MAX_LIMIT

JOB_ID = Parameter("job_id", "path", "The job's id.", {"type": "string", "pattern": "^job_[0-9a-f]{32}$"})
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
ACCEPTED_HEADERS = ("Location", "Retry-After", "Preference-Applied", "Idempotent-Replayed")
ENDED_HEADERS = ("Location", "Preference-Applied", "Idempotent-Replayed")

_MOMENT = {"type": "string", "format": "date-time"}
LIST_JOBS = (
    Parameter(
        "limit",
        "query",
        "The size of a page.",
        {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT, "default": DEFAULT_LIMIT},
    ),
    Parameter("after", "query", "The last id of the page before.", JOB_ID.schema),
    Parameter(
        "status", "query", "Only this status.", {"type": "string", "enum": [s.value for s in JobStatus]}
    ),
    Parameter(
        "model", "query", "Only this model: `name`, or `name@version`.", {"type": "string", "minLength": 1}
    ),
    Parameter("created_after", "query", "Only jobs made later than this.", _MOMENT),
    Parameter("created_before", "query", "Only jobs made earlier than this.", _MOMENT),
    Parameter(
        "metadata",
        "query",
        "Only jobs with all of these, 16 at most: `metadata[key]=value`.",
        {"type": "object", "additionalProperties": True},
        {"style": "deepObject", "explode": True},
    ),
)

HEADERS = {
    "Location": "Where the job is.",
    "Retry-After": "Seconds after which to look again.",
    "Preference-Applied": "`wait=N` if the answer was held.",
    "Idempotent-Replayed": "`true` if an earlier request with this key made the job.",
    "X-Request-Id": "The request's id: yours, or a new one.",
    "WWW-Authenticate": "How to authenticate.",
    "Allow": "The methods of this path.",
}
