"""The only mapping from an HTTP answer to an error: problem details (RFC 9457), or a proxy's."""

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

from headrace.errors import (
    APIError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    FieldError,
    NotFoundError,
    PayloadTooLargeError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
    UnsupportedMediaTypeError,
    ValidationError,
)

TRANSIENT_STATUSES = frozenset({429, 502, 503, 504})

# Without a problem document, these are of a server that has no such API; others may be of a proxy before one.
_ODD = frozenset({401, 403, 404, 405, 501})

_BY_STATUS: dict[int, type[APIError]] = {
    400: BadRequestError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    413: PayloadTooLargeError,
    415: UnsupportedMediaTypeError,
    422: ValidationError,
    429: RateLimitError,
}


def error_from(status: int, headers: Mapping[str, str], body: bytes) -> APIError:
    """The typed error for an answer with `status`, whoever sent it and in whatever shape."""
    problem = _problem(body)
    default = ServerError if status >= 500 else APIError
    return _BY_STATUS.get(status, default)(
        status,
        str(problem.get("code") or f"http_{status}"),
        str(problem.get("detail") or problem.get("title") or _phrase(status, headers)),
        problem.get("request_id") or headers.get("X-Request-Id"),
        _field_errors(problem.get("errors")),
        # A proxy says nothing about it; then the status does.
        bool(problem.get("retryable", status in TRANSIENT_STATUSES)),
        retry_after(headers),
    )


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait by `Retry-After`, given as a number or as a date.

    A date is compared with the answer's own `Date`, so that a wrong clock here does no harm.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        until = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))
    except (TypeError, ValueError):
        return None
    return max(0.0, until.total_seconds())


def _problem(body: bytes) -> dict[str, Any]:
    try:
        problem = json.loads(body)
    except ValueError:
        return {}
    return problem if isinstance(problem, dict) else {}


def _field_errors(errors: Any) -> tuple[FieldError, ...]:
    if not isinstance(errors, list):
        return ()
    return tuple(
        FieldError(
            str(item.get("pointer") or ""),
            str(item.get("code") or ""),
            str(item.get("message") or item.get("code") or "is not valid"),
        )
        for item in errors
        if isinstance(item, dict)
    )


def _phrase(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:
        target = headers.get("Location", "elsewhere")
        return f"the server redirects to {target}, which is never followed; set that as the URL"
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        return "the server gave no reason"
    return f"{phrase}, and not from a Headrace server; is the URL right?" if status in _ODD else phrase
