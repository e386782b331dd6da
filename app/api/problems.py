"""Errors to HTTP, and nowhere else: `application/problem+json` (RFC 9457) for every 4xx and 5xx."""

from collections.abc import Mapping
from math import ceil
from typing import Any

import orjson
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException

from app import errors
from app.api.catalogue_of_errors import CODES
from app.errors import FieldError, HeadraceError, RequestError
from app.observability import metrics
from app.observability.logs import get_logger

PROBLEM = "application/problem+json"

_STATUS: tuple[tuple[type[HeadraceError], int], ...] = (
    (errors.Malformed, 400),
    (errors.Unauthenticated, 401),
    (errors.Forbidden, 403),
    (errors.NotFound, 404),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.WrongMediaType, 415),
    (errors.Invalid, 422),
    (errors.Overloaded, 503),
    (errors.TooMany, 429),
    (errors.WorkFailed, 500),
    (errors.Unavailable, 503),
)
_FRAMEWORK = {404: "not_found", 405: "method_not_allowed", 413: "body_too_large", 429: "too_many_requests"}
_RETRY_SOON = frozenset({"idempotency_in_flight"})
_RETRY_AFTER_S = 1
_ROOM_AFTER_S = 15
"""Nobody makes room within a second."""
_log = get_logger()


def install(app: Flask) -> None:
    """Make every error of this application a problem."""
    app.register_error_handler(HeadraceError, _ours)
    app.register_error_handler(HTTPException, _frameworks)
    app.register_error_handler(Exception, _bug)


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    errors: tuple[FieldError, ...] = (),
    retryable: bool = False,
    headers: Mapping[str, str] | None = None,
    **extensions: Any,
) -> Response:
    """The answer for one error. OpenAI's clients read `error`; everybody else reads the rest."""
    known = CODES.get(code)
    first = errors[0].pointer if errors else ""
    body = {
        "type": f"/docs/errors#{code}" if known else "about:blank",
        "title": known.title if known else code.replace("_", " ").capitalize(),
        "status": status,
        "detail": detail,
        "instance": _printable(request.path),
        "code": code,
        "request_id": g.get("request_id"),
        "retryable": retryable,
        "errors": [{"pointer": e.pointer, "code": e.code, "message": _printable(e.message)} for e in errors],
        "error": {
            "message": detail,
            "type": "server_error" if status >= 500 else "invalid_request_error",
            "param": first.removeprefix("/").replace("/", ".") or None,
            "code": code,
        },
        **extensions,
    }
    answer = Response(orjson.dumps(body), status, mimetype=PROBLEM)
    answer.headers.extend(dict(headers or {}))
    return answer


def _ours(error: HeadraceError) -> Response:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), None)
    if status is None:
        return _bug(error)
    headers: dict[str, str] = {}
    retryable = error.retryable or error.code in _RETRY_SOON
    extensions: dict[str, Any] = {}
    if isinstance(error, errors.TooMany):
        headers["Retry-After"] = str(max(1, ceil(error.retry_after_s)))
        if error.violated:
            extensions["violated-policies"] = list(error.violated)
    elif retryable:
        headers["Retry-After"] = str(_ROOM_AFTER_S if isinstance(error, errors.NoRoom) else _RETRY_AFTER_S)
    elif isinstance(error, errors.WorkFailed):
        # OpenAI's clients repeat whatever is a 5xx, unless they are told that it is in vain.
        headers["X-Should-Retry"] = "false"
    if status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="headrace"'
    if isinstance(error, RequestError):
        return problem(
            status,
            error.code,
            _printable(error.detail),
            errors=error.errors,
            retryable=retryable,
            headers=headers,
            **extensions,
        )
    _log.warning("http.unavailable", exc_info=error)
    return problem(status, error.code, str(error), retryable=retryable, headers=headers)


def _frameworks(error: HTTPException) -> Response:
    if error.code is None or error.code < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect is no error
    code = _FRAMEWORK.get(error.code, "internal_error" if error.code >= 500 else "bad_request")
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return problem(error.code, code, CODES[code].meaning, headers=kept)


def _bug(error: Exception) -> Response:
    _log.error("http.failed", exc_info=error)
    metrics.HTTP_BUGS.inc()
    return problem(500, "internal_error", "something went wrong on our side; quote the request_id")


def _printable(text: str) -> str:
    return text.encode("utf-8", "replace").decode()[:2000]
