"""Prometheus metrics: their names, and how all processes of a machine are shown as one.

Each process that was told a folder (`app/observability/sharing.py`) writes there, and any of them can
answer for all. Labels are bounded: routes, models, queues and codes, never ids. Tenants are named in one
metric, and no more of them than `MOST_TENANTS` a process.
"""

import os
from contextlib import suppress
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

from app.observability.reserved import reserve_blocks

__all__ = ["CONTENT_TYPE_LATEST", "accepted_of", "all_processes", "exposition", "forget_process"]

reserve_blocks()

MOST_TENANTS = 50
"""Tenants a process names; all that come after them are counted together as `other`."""

_LATENCY = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_WAITS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 14400, 86400)

SERVICE_UP = Gauge(
    "headrace_service_up",
    "1 if the API reached `postgres` or `redis` when it was scraped, else 0.",
    ["service"],
    multiprocess_mode="livemostrecent",
)
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
NO_ROOM = Counter(
    "headrace_no_room",
    "Errors of `postgres` (disk full or failing, memory or connections used up) and of the file `storage` "
    "(full, failing or read only), by service.",
    ["service"],
)
HTTP_BUGS = Counter("headrace_http_bugs", "Requests that ended in an exception nobody expected.")
ACCEPT_JOBS = Counter("headrace_accept_jobs", "Jobs accepted, by model.", ["model"])
ACCEPT_REPLAYS = Counter("headrace_accept_replays", "Requests answered by an earlier one with the same key.")
ACCEPT_REFUSED = Counter("headrace_accept_refused", "Jobs refused, by error code.", ["code"])
LIMITS_REFUSED = Counter(
    "headrace_limits_refused", "Requests and jobs refused for a limit, by its policy.", ["policy"]
)
ACCEPT_TENANT_JOBS = Counter(
    "headrace_accept_tenant_jobs",
    "Jobs accepted one by one, by the tenant's number; each process names its first 50 tenants, all others "
    "are `other`.",
    ["tenant"],
)
SIGNAL_UNHEARD = Counter(
    "headrace_signal_unheard", "Doorbells that Redis did not take; the sweep rings them."
)
CLAIM_JOBS = Counter("headrace_claim_jobs", "Jobs leased to workers, by model.", ["model"])
CLAIM_SECONDS = Histogram("headrace_claim_seconds", "Time of one claim.", buckets=_LATENCY)
CLAIM_WAIT_SECONDS = Histogram(
    "headrace_claim_wait_seconds",
    "Time from a job's submission, or its batch's, to its claim, by lane; not of jobs that failed before.",
    ["lane"],
    buckets=_WAITS,
)
DRAINS = Counter("headrace_drains", "Drains that ended, by model and why.", ["model", "ended"])
DRAIN_SECONDS = Counter(
    "headrace_drain_seconds",
    "Seconds that children spent in drains, by model; the rest they were idle.",
    ["model"],
)
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
BATCH_FILL_RATIO = Histogram(
    "headrace_batch_fill_ratio",
    "Jobs in a micro-batch as a share of the most that its model takes, by model.",
    ["model"],
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1),
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
WEBHOOK_GIVEN_UP = Counter("headrace_webhook_given_up", "Deliveries that failed for good.")
WEBHOOK_UNDER_WAY = Gauge(
    "headrace_webhook_under_way", "Deliveries being sent now.", multiprocess_mode="livesum"
)
WEBHOOK_QUEUE = Gauge(
    "headrace_webhook_queue",
    "Deliveries that are due, that wait for their next try, and that are being sent.",
    ["place"],
    multiprocess_mode="mostrecent",
)
WEBHOOK_OVERDUE_SECONDS = Gauge(
    "headrace_webhook_overdue_seconds",
    "For how long the delivery that is due longest has been due; 0 if none is.",
    multiprocess_mode="mostrecent",
)
WEBHOOK_ENDPOINTS = Gauge(
    "headrace_webhook_endpoints",
    "Endpoints of all tenants, by status.",
    ["status"],
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
RESCUE_WORKERS = Counter(
    "headrace_rescue_workers",
    "Processes of workers found dead, by cause: by the scheduler, or by the one that took the place.",
    ["cause"],
)
for _cause in ("lost", "timeout", "crashed"):
    # From 0 on, or the first one would be no increase.
    RESCUE_WORKERS.labels(_cause)
RESCUE_DELIVERIES = Counter("headrace_rescue_deliveries", "Deliveries taken back from dead senders.")
RESCUE_BATCHES = Counter("headrace_rescue_batches", "Batches taken back from dead clerks.")
PROMOTE_JOBS = Counter("headrace_promote_jobs", "Deferred jobs that became ready.")
AGE_JOBS = Counter("headrace_age_jobs", "Times that a waiting job moved up by a priority.")
EXPIRE_JOBS = Counter("headrace_expire_jobs", "Jobs that ended because they waited too long.")
SCHEDULER_SECONDS = Histogram(
    "headrace_scheduler_seconds", "Time of one run of a periodic service.", ["service"], buckets=_LATENCY
)
SCHEDULER_FAILURES = Counter(
    "headrace_scheduler_failures", "Runs of a periodic service that ended in a bug.", ["service"]
)
SCHEDULER_ROUND = Gauge(
    "headrace_scheduler_round_timestamp_seconds",
    "When a scheduler last finished a round, in Unix time.",
    multiprocess_mode="mostrecent",
)
QUEUE_JOBS = Gauge(
    "headrace_queue_jobs",
    "Jobs in each place now, by model and lane.",
    ["model", "lane", "place"],
    multiprocess_mode="mostrecent",
)
QUEUE_OLDEST_SECONDS = Gauge(
    "headrace_queue_oldest_seconds",
    "Time since the submission of the oldest ready job, by model and lane; 0 if none is ready.",
    ["model", "lane"],
    multiprocess_mode="mostrecent",
)
QUEUE_UNSERVED_JOBS = Gauge(
    "headrace_queue_unserved_jobs",
    "Ready jobs whose queue no live child serves, by model and lane.",
    ["model", "lane"],
    multiprocess_mode="mostrecent",
)
WORKERS = Gauge(
    "headrace_workers",
    "Live children, senders and clerks included, by pool and state.",
    ["pool", "state"],
    multiprocess_mode="mostrecent",
)
POOL_MACHINES = Gauge(
    "headrace_pool_machines",
    "Machines of each pool: desired, running, starting, or draining with leases.",
    ["pool", "state"],
    multiprocess_mode="mostrecent",
)
POOL_BACKLOG = Gauge(
    "headrace_pool_backlog_seconds",
    "Seconds that one slot would need for what the pool's queues hold.",
    ["pool"],
    multiprocess_mode="mostrecent",
)


_tenants: set[int] = set()


def accepted_of(tenant_id: int, jobs: int = 1) -> None:
    """Count these jobs of a tenant under its number or, beyond `MOST_TENANTS`, under `other`."""
    if tenant_id not in _tenants and len(_tenants) < MOST_TENANTS:
        _tenants.add(tenant_id)
    ACCEPT_TENANT_JOBS.labels(tenant_id if tenant_id in _tenants else "other").inc(jobs)


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
    return generate_latest(all_processes())


def all_processes() -> CollectorRegistry:
    """What collects from all processes that share a folder, or from this one."""
    if not os.path.isdir(os.environ.get("PROMETHEUS_MULTIPROC_DIR", "")):
        return REGISTRY
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)
    return registry


def forget_process(pid: int) -> None:
    """Drop the gauges of a process that ended; its counters stay."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        with suppress(OSError):
            multiprocess.mark_process_dead(pid)
