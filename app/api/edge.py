"""What surrounds every request: its id, its log line, its metrics, and the headers of its answer."""

import re
import time
from uuid import uuid4

import structlog
from flask import Flask, Response, g, request

from app.db.scope import work_for
from app.observability import metrics, tracing
from app.observability.logs import get_logger

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_QUIET_ROUTES = frozenset({"/livez", "/readyz", "/metrics"})
_log = get_logger()


def install(app: Flask) -> None:
    """Run around every request of this application, errors included."""
    app.before_request(_begin)
    app.after_request(_end)


def request_id() -> str:
    """The id of the current request: the client's own if it is short and plain, else a new one."""
    known: str = g.request_id
    return known


def _begin() -> None:
    g.began = time.perf_counter()
    # Whoever had this thread before: nobody works for them any more.
    work_for(None)
    given = request.headers.get("X-Request-Id", "")
    g.request_id = given if _REQUEST_ID.fullmatch(given) else f"req_{uuid4().hex}"
    structlog.contextvars.clear_contextvars()
    structlog.contextvars.bind_contextvars(request_id=g.request_id)
    if _route() not in _QUIET_ROUTES:
        trace_id = tracing.begin_request(_method(), request.headers.get("traceparent"))
        if trace_id:
            structlog.contextvars.bind_contextvars(trace_id=trace_id)


def _end(response: Response) -> Response:
    elapsed = time.perf_counter() - g.began
    headers = response.headers
    headers["X-Request-Id"] = g.request_id
    headers["X-Content-Type-Options"] = "nosniff"
    headers.setdefault("Cache-Control", "no-store")
    method, route = _method(), _route()
    tracing.end_request(method, route, response.status_code)
    metrics.http_requests(method, route, response.status_code).inc()
    if not g.get("held"):
        metrics.http_seconds(method, route).observe(elapsed)
    if route not in _QUIET_ROUTES:
        _log.info(
            "http.request",
            method=method,
            route=route,
            status=response.status_code,
            duration_ms=round(elapsed * 1000, 2),
        )
    return response


def _method() -> str:
    return request.method if request.method in _METHODS else "OTHER"


def _route() -> str:
    return request.url_rule.rule if request.url_rule else "unmatched"
