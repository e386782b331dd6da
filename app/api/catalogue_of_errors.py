"""Every error code a client can meet: its status, what it means, and what to do."""

from dataclasses import dataclass
from html import escape


@dataclass(frozen=True, slots=True)
class ErrorCode:
    """One stable code."""

    code: str
    status: int
    title: str
    meaning: str


_CODES = (
    ErrorCode(
        "bad_request",
        400,
        "Bad request",
        "The request line, a header or the body's framing can't be understood.",
    ),
    ErrorCode("invalid_json", 400, "Not JSON", "The body can't be read as JSON (RFC 8259)."),
    ErrorCode("invalid_utf8", 400, "Not UTF-8", "The body is not UTF-8."),
    ErrorCode("invalid_encoding", 400, "Not as encoded", "The body is not what Content-Encoding says."),
    ErrorCode("json_too_deep", 400, "Nested too deep", "The JSON nests deeper than this server reads."),
    ErrorCode(
        "invalid_prefer", 400, "Bad Prefer header", "`Prefer: wait=N` needs a whole N within the limit."
    ),
    ErrorCode(
        "invalid_idempotency_key",
        400,
        "Bad Idempotency-Key",
        "It must be 1 to 255 printable ASCII characters.",
    ),
    ErrorCode(
        "invalid_multipart",
        400,
        "Not a form",
        "The body can't be read as multipart/form-data, or it breaks off.",
    ),
    ErrorCode("missing_api_key", 401, "No API key", "Send `Authorization: Bearer hr_…`."),
    ErrorCode("invalid_api_key", 401, "Wrong API key", "The key is unknown, revoked or expired."),
    ErrorCode("missing_scope", 403, "Not allowed", "The key lacks the scope that this needs."),
    ErrorCode(
        "not_found", 404, "Not found", "Nothing is served at this path. `/docs` of the server lists what is."
    ),
    ErrorCode("job_not_found", 404, "No such job", "There is no job with this id, or it is not yours."),
    ErrorCode("worker_not_found", 404, "No such worker", "There is no worker process with this id."),
    ErrorCode("tenant_not_found", 404, "No such tenant", "There is no tenant of this name."),
    ErrorCode("key_not_found", 404, "No such key", "There is no API key with this id, or it is not live."),
    ErrorCode("model_not_found", 404, "No such model", "No model is registered by this name and version."),
    ErrorCode(
        "endpoint_not_found",
        404,
        "No such webhook endpoint",
        "There is no webhook endpoint with this id, or it is not yours.",
    ),
    ErrorCode(
        "delivery_not_found",
        404,
        "No such delivery",
        "There is no delivery with this id, or it is not yours, or it is past its retention.",
    ),
    ErrorCode(
        "file_not_found",
        404,
        "No such file",
        "There is no file with this id, or it is not yours, or it has expired.",
    ),
    ErrorCode("batch_not_found", 404, "No such batch", "There is no batch with this id, or it is not yours."),
    ErrorCode("method_not_allowed", 405, "Method not allowed", "The Allow header says which methods are."),
    ErrorCode(
        "idempotency_in_flight",
        409,
        "First request in flight",
        "The first request with this Idempotency-Key has not ended yet. Send it again in a moment.",
    ),
    ErrorCode("job_not_finished", 409, "Job not finished", "This needs a job that has ended."),
    ErrorCode("job_erased", 409, "Job erased", "The job's input was erased, so it can't run again."),
    ErrorCode("job_gone", 409, "Job gone", "The job that this key made is past its retention."),
    ErrorCode("file_gone", 409, "File gone", "The file that this key made was deleted, or has expired."),
    ErrorCode("batch_not_ended", 409, "Batch not ended", "This needs a batch that has ended."),
    ErrorCode(
        "nothing_to_retry",
        409,
        "Nothing to retry",
        "Every job of the batch succeeded, or it never had one: there is nothing to run again.",
    ),
    ErrorCode("version_gone", 409, "Version gone", "The job's model version is no longer registered."),
    ErrorCode("tenant_exists", 409, "Tenant exists", "There is a tenant of this name already."),
    ErrorCode(
        "key_rotated",
        409,
        "Key rotated before",
        "The key has a successor, and only its grace period is left of its lifetime. Rotate the successor, or"
        " give `expires_at`.",
    ),
    ErrorCode(
        "own_tenant",
        409,
        "Own tenant",
        "A key can't disable the tenant that it is of: it would stop working, and could not undo it. Ask with"
        " a key of another tenant, or use `headracectl tenants set`.",
    ),
    ErrorCode(
        "too_many_endpoints",
        409,
        "Too many webhook endpoints",
        "The tenant has as many webhook endpoints as it may. Delete one first.",
    ),
    ErrorCode(
        "endpoint_disabled",
        409,
        "Webhook endpoint disabled",
        "Nothing is sent to a disabled endpoint. Enable it first: PATCH its `status`.",
    ),
    ErrorCode(
        "endpoint_gone",
        409,
        "Webhook endpoint gone",
        "The delivery's webhook endpoint was deleted, so it can't be sent again.",
    ),
    ErrorCode(
        "delivery_in_flight",
        409,
        "Delivery in flight",
        "The delivery is being sent at this moment. Its outcome is known within seconds.",
    ),
    ErrorCode(
        "body_too_large", 413, "Body too large", "The body is over the limit, as sent or decompressed."
    ),
    ErrorCode("file_too_large", 413, "File too large", "The file is over the limit of one file."),
    ErrorCode(
        "file_quota_exceeded",
        413,
        "File quota exceeded",
        "With this file, the tenant's files would take more room than they may. Delete some first.",
    ),
    ErrorCode(
        "unsupported_media_type",
        415,
        "Wrong type of body",
        "Send Content-Type: application/json, plain or gzip; a file as multipart/form-data, not compressed.",
    ),
    ErrorCode(
        "range_not_satisfiable", 416, "Nothing in this range", "The content ends before the range begins."
    ),
    ErrorCode("invalid_request", 422, "Invalid request", "`errors` names each wrong place."),
    ErrorCode(
        "invalid_input", 422, "Invalid input", "The input does not fit the model's schema; see `errors`."
    ),
    ErrorCode(
        "model_does_not_embed",
        422,
        "Model does not embed",
        "The model does not turn a text into an `embedding`: submit jobs to it instead.",
    ),
    ErrorCode("invalid_cursor", 422, "Bad cursor", "`after` must be an id of this list."),
    ErrorCode("unknown_model", 422, "Unknown model", "No model is registered by this name."),
    ErrorCode("unknown_version", 422, "Unknown version", "The model has no such version."),
    ErrorCode("version_mismatch", 422, "Two versions", "`name@version` and `version` differ."),
    ErrorCode(
        "idempotency_key_reused", 422, "Key reused", "This Idempotency-Key was used with another body."
    ),
    ErrorCode("too_many_requests", 429, "Too many requests", "Come back after Retry-After seconds."),
    ErrorCode(
        "job_quota_exceeded",
        429,
        "Too many jobs",
        "The tenant has as many jobs as it may; `violated-policies` says of which kind. Come back once some"
        " have ended.",
    ),
    ErrorCode(
        "embedding_failed",
        500,
        "Embedding failed",
        "The model failed at one of the texts for a reason of its own, see `errors`; the rest is canceled.",
    ),
    ErrorCode("internal_error", 500, "Internal error", "A bug of ours. Quote the request_id."),
    ErrorCode(
        "overloaded",
        503,
        "Overloaded",
        "More work waits in all than is done in time. Come back after Retry-After seconds.",
    ),
    ErrorCode("unavailable", 503, "Unavailable", "A service behind this one is away. Try again."),
    ErrorCode(
        "no_room",
        503,
        "No room",
        "The database or the file storage is full. Nothing was kept; come back after Retry-After seconds.",
    ),
    ErrorCode(
        "too_many_waiters", 503, "Too many streams", "This process holds as many as it may. Try again."
    ),
    ErrorCode(
        "embedding_timeout",
        503,
        "Embeddings late",
        "Not all texts were done in time, and the rest was canceled. Send fewer at once, or come back.",
    ),
    ErrorCode("storage_not_configured", 503, "No storage", "This server was not told where to keep files."),
    ErrorCode("not_ready", 503, "Not ready", "`checks` says what is missing."),
)

CODES = {entry.code: entry for entry in _CODES}


def page() -> str:
    """The catalogue as a plain HTML page; each code is an anchor, which problem types point to."""
    rows = "\n".join(
        f'<tr id="{entry.code}"><td><code>{entry.code}</code></td><td>{entry.status}</td>'
        f"<td>{escape(entry.meaning)}</td></tr>"
        for entry in _CODES
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Headrace: errors</title>'
        f"<h1>Errors</h1><table><tr><th>code</th><th>status</th><th>meaning</th></tr>\n{rows}\n</table></html>"
    )
