"""Prometheus metrics: their names, and how all processes of a machine are shown as one.

Each process that was told a folder (`app/observability/sharing.py`) writes there, and any of them can
answer for all. Labels are bounded: routes and models, never ids or tenants.
"""

import os
from functools import lru_cache

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
CLAIM_JOBS = Counter("headrace_claim_jobs", "Jobs leased to workers, by model.", ["model"])
CLAIM_SECONDS = Histogram("headrace_claim_seconds", "Time of one claim.", buckets=_LATENCY)
MEDIA_FETCHED = Counter(
    "headrace_media_fetched",
    "Media that workers fetched for inputs, by `ok`, and jobs that had to go without, by error code.",
    ["outcome"],
)
MEDIA_FETCHED_BYTES = Counter("headrace_media_fetched_bytes", "Bytes of media that workers fetched.")
BATCH_ITEMS = Histogram(
    "headrace_batch_items",
    "Jobs in a micro-batch, by model.",
    ["model"],
    buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512),
)
BATCH_UNITS = Counter(
    "headrace_batch_units",
    "Units in micro-batches, by model: `asked` is what inputs hold, `padded` what is computed.",
    ["model", "kind"],
)
BATCH_PREDICTION_ERROR = Histogram(
    "headrace_batch_prediction_error",
    "How far the time of a micro-batch was from the predicted one, as a share of it, by model.",
    ["model"],
    buckets=(0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 1, 2, 5),
)
INFER_SECONDS = Histogram(
    "headrace_infer_seconds",
    "Time of one micro-batch, prepare to finish, by model.",
    ["model"],
    buckets=_LATENCY,
)
INFER_DEVICE_SECONDS = Counter(
    "headrace_infer_device_seconds", "Seconds that devices worked, by model.", ["model"]
)
SETTLE_JOBS = Counter("headrace_settle_jobs", "Jobs settled, by what they became.", ["status"])
SETTLE_STALE = Counter("headrace_settle_stale", "Jobs whose lease was lost before they were settled.")
SETTLE_SECONDS = Histogram("headrace_settle_seconds", "Time of one settle.", buckets=_LATENCY)
NOTIFY_JOBS = Counter("headrace_notify_jobs", "Jobs whose waiting clients were told.")
WEBHOOK_TRIES = Counter(
    "headrace_webhook_tries", "Tries to deliver a webhook, by `delivered` or the error's class.", ["outcome"]
)
WEBHOOK_SECONDS = Histogram(
    "headrace_webhook_seconds", "Time of one try that was answered.", buckets=_LATENCY
)
WEBHOOK_DELAY_SECONDS = Histogram(
    "headrace_webhook_delay_seconds",
    "Time from an event to its delivery, where the first try succeeded.",
    buckets=_LATENCY,
)
WEBHOOK_UNDER_WAY = Gauge(
    "headrace_webhook_under_way", "Deliveries being sent now.", multiprocess_mode="livesum"
)
WEBHOOK_QUEUE = Gauge(
    "headrace_webhook_queue",
    "Deliveries that are due, that wait for their next try, and that are being sent.",
    ["place"],
    multiprocess_mode="mostrecent",
)
FILES_STORED = Counter("headrace_files_stored", "Files stored, by purpose.", ["purpose"])
FILES_STORED_BYTES = Counter(
    "headrace_files_stored_bytes", "Bytes of the files stored, by purpose.", ["purpose"]
)
BATCHES_JOBS = Counter("headrace_batches_jobs", "Jobs made from lines of batches.")
BATCHES_ENDED = Counter("headrace_batches_ended", "Batches that ended, by status.", ["status"])
BATCHES_OPEN = Gauge(
    "headrace_batches_open",
    "Batches that have not ended, by status.",
    ["status"],
    multiprocess_mode="mostrecent",
)
DRAIN_CHILDREN = Counter("headrace_drain_children", "Children that began to leave, by cause.", ["cause"])
DRAIN_RELEASED_JOBS = Counter(
    "headrace_drain_released_jobs",
    "Jobs that leaving children gave back: `unstarted`, or `abandoned` while they ran.",
    ["kind"],
)
RESCUE_JOBS = Counter("headrace_rescue_jobs", "Jobs taken back from dead workers, by outcome.", ["outcome"])
QUEUE_JOBS = Gauge(
    "headrace_queue_jobs",
    "Jobs in each place now, by model and lane.",
    ["model", "lane", "place"],
    multiprocess_mode="mostrecent",
)


@lru_cache(maxsize=1024)
def http_requests(method: str, route: str, status: int) -> Counter:
    """`HTTP_REQUESTS` with these labels, looked up once: that costs as much as counting."""
    return HTTP_REQUESTS.labels(method, route, status)


@lru_cache(maxsize=1024)
def http_seconds(method: str, route: str) -> Histogram:
    """`HTTP_SECONDS` with these labels, likewise."""
    return HTTP_SECONDS.labels(method, route)


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
