"""`/livez`, `/readyz`, `/metrics` and `/`: for probes, scrapers and the curious. None needs a key."""

from flask import Blueprint, Response

from app import __version__
from app.api.answers import json_answer
from app.api.operation import Answer, Operation, route
from app.api.problems import problem
from app.api.schemas import Index, Liveness, Readiness
from app.api.services import services
from app.observability import metrics

blueprint = Blueprint("health", __name__)


@route(
    blueprint,
    Operation(
        "index",
        "GET",
        "/",
        "operations",
        "Where things are",
        key=False,
        answers={200: Answer("Name, version and links.", Index)},
    ),
)
def index() -> Response:
    """What this server is, and where its documentation is."""
    return json_answer(
        {"name": "headrace", "version": __version__, "docs": "/docs", "openapi": "/openapi.json"}
    )


@route(
    blueprint,
    Operation(
        "livez",
        "GET",
        "/livez",
        "operations",
        "Whether the process is alive",
        key=False,
        answers={200: Answer("It is.", Liveness)},
    ),
)
def livez() -> Response:
    """Touches nothing: a dead database is no reason to restart this process."""
    return json_answer({"status": "ok"})


@route(
    blueprint,
    Operation(
        "readyz",
        "GET",
        "/readyz",
        "operations",
        "Whether the server can do its work",
        "503 within seconds of Postgres going away. Without Redis it is `degraded`: jobs are accepted.",
        key=False,
        answers={200: Answer("It can.", Readiness)},
        errors=("not_ready",),
    ),
)
def readyz() -> Response:
    """Ready, ready but degraded, or 503 with the reasons."""
    report = services().readiness.report()
    reasons = {"postgres": report.postgres, "redis": report.redis}
    checks = {name: {"ok": reason is None, "reason": reason} for name, reason in reasons.items()}
    if not report.ready:
        detail = "; ".join(f"{name}: {reason}" for name, reason in reasons.items() if reason)
        return problem(503, "not_ready", detail, retryable=True, headers={"Retry-After": "1"}, checks=checks)
    return json_answer({"status": "degraded" if report.redis else "ready", "checks": checks})


@route(
    blueprint,
    Operation(
        "metrics",
        "GET",
        "/metrics",
        "operations",
        "Prometheus metrics",
        "Of all processes that share a metrics folder.",
        key=False,
        answers={200: Answer("In Prometheus' text format.", media="text/plain")},
    ),
)
def prometheus() -> Response:
    """Everything that is measured."""
    report = services().readiness.report()
    metrics.SERVICE_UP.labels("postgres").set(report.postgres is None)
    metrics.SERVICE_UP.labels("redis").set(report.redis is None)
    return Response(metrics.exposition(), content_type=metrics.CONTENT_TYPE_LATEST)
