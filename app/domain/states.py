"""A job's places, the moves between them, and the state the API shows for each.

                 accept
                   │
                   ▼        claim            settle
    ┌─────────► READY ───────────► LEASED ───────────► RESULT
    │             │  ▲               │ │                 ▲
    │ promote     │  └── release ────┘ │ retry           │
    │             │      rescue        ▼                 │
    └──────────── │ ─────────────── DEFERRED             │
                  └── cancel, expire ──┴─────────────────┘

A place is a table, and a job's row is in exactly one. A move is one SQL statement that deletes the row
from one table and inserts it into the next. RESULT has no way out.
"""

from enum import StrEnum


class Place(StrEnum):
    """The table a job's row is in."""

    READY = "job_ready"
    DEFERRED = "job_deferred"
    LEASED = "job_leases"
    RESULT = "job_results"


class JobStatus(StrEnum):
    """What the API shows. No state is ever added; detail goes in `status_reason`."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    EXPIRED = "expired"


TERMINAL = frozenset({JobStatus.SUCCEEDED, JobStatus.FAILED, JobStatus.CANCELED, JobStatus.EXPIRED})

STATUS_IN: dict[Place, frozenset[JobStatus]] = {
    Place.READY: frozenset({JobStatus.QUEUED}),
    Place.DEFERRED: frozenset({JobStatus.QUEUED}),
    Place.LEASED: frozenset({JobStatus.RUNNING}),
    Place.RESULT: TERMINAL,
}

MOVES: dict[Place, frozenset[Place]] = {
    Place.READY: frozenset({Place.LEASED, Place.RESULT}),
    Place.DEFERRED: frozenset({Place.READY, Place.RESULT}),
    Place.LEASED: frozenset({Place.READY, Place.DEFERRED, Place.RESULT}),
    Place.RESULT: frozenset(),
}


class Reason(StrEnum):
    """`status_reason`: why a job is where it is."""

    WAITING_FOR_WORKER = "waiting_for_worker"
    RETRY_BACKOFF = "retry_backoff"
    PREEMPTED = "preempted"
    QUEUE_TTL_PASSED = "queue_ttl_passed"
    WORKER_LOST = "worker_lost"
    CANCEL_REQUESTED = "cancel_requested"


class AttemptOutcome(StrEnum):
    """How one attempt ended; the first two are the model's doing, the others cost no attempt."""

    SUCCEEDED = "succeeded"
    ERROR = "error"
    CANCELED = "canceled"
    CRASHED = "crashed"
    TIMEOUT = "timeout"
    LOST = "lost"
    RELEASED = "released"
