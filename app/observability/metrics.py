"""Prometheus metrics: their names, and how all processes of a machine are shown as one.

Each process that was told a folder (`app/observability/sharing.py`) writes there, and any of them can
answer for all. Labels are bounded: routes and models, never ids or tenants.
"""

import os

from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

__all__ = ["CONTENT_TYPE_LATEST", "exposition", "forget_process"]

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)

HTTP_REQUESTS = Counter(
    "headrace_http_requests", "Requests answered, by method, route and status.", ["method", "route", "status"]
)
HTTP_SECONDS = Histogram(
    "headrace_http_request_seconds",
    "Time from the request to the start of its answer, long polls apart.",
    ["method", "route"],
    buckets=_LATENCY,
)
HTTP_WAITING = Gauge(
    "headrace_http_waiting",
    "Long polls and event streams held open now.",
    multiprocess_mode="livesum",
)
HTTP_BUGS = Counter("headrace_http_bugs", "Requests that ended in an exception nobody expected.")
ACCEPT_JOBS = Counter("headrace_accept_jobs", "Jobs accepted, by model.", ["model"])
ACCEPT_REPLAYS = Counter("headrace_accept_replays", "Requests answered by an earlier one with the same key.")
ACCEPT_REFUSED = Counter("headrace_accept_refused", "Jobs refused, by error code.", ["code"])
SIGNAL_UNHEARD = Counter(
    "headrace_signal_unheard", "Doorbells that Redis did not take; the sweep rings them."
)


def exposition() -> bytes:
    """Everything that is measured, of all processes that share a folder, in Prometheus' text format."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return generate_latest(REGISTRY)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return generate_latest(registry)


def forget_process(pid: int) -> None:
    """Drop the gauges of a process that ended; its counters stay."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(pid)
