"""What flows between the seven verbs: one frozen type per arrow.

    accept ─QueuedJob─► signal ─Doorbell─► claim ─ClaimedJob─► batch ─MicroBatch─► infer
    ─Outcome─► settle ─SettledJob─► notify

A function that needs a claimed job takes a `ClaimedJob`: a move out of order does not type-check.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar
from uuid import UUID

from app.domain.lanes import Device, Lane, Priority, queue_name
from app.domain.retry import RetryPolicy
from app.domain.states import JobStatus

DRAIN_TASK = "headrace.drain"
DELIVER_TASK = "headrace.deliver"
BOOKKEEP_TASK = "headrace.bookkeep"


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A validated job as accept writes it: row, idempotency key and place in the queue together.

    `input` is the JSON text as the client sent it (canonical form is only hashed, never stored).
    """

    id: UUID
    tenant_id: int
    version_id: int
    model: str
    version: str
    device: Device
    lane: Lane
    priority: Priority
    input: bytes
    input_hash: bytes
    queue_ttl_s: float
    execution_timeout_s: float
    retry: RetryPolicy
    metadata: dict[str, str] = field(default_factory=dict)
    use_case: str | None = None
    webhook: str | None = None
    webhook_events: tuple[str, ...] = ()
    retry_of: UUID | None = None
    weight: int = 1
    """Of its tenant: the share of the queue that the tenant gets beside others."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a job comes in the order of its queue, in microseconds of virtual time: `behind` the head, but
    not before `floor`. The head is the lowest rank that waits at `after` or later, or else the time of day.
    """

    behind: int = 0
    floor: int = 0
    after: int = 0


@dataclass(frozen=True, slots=True)
class Doorbell:
    """ "There is work for this model version in this lane." Names no job and no tenant."""

    version_id: int
    model: str
    version: str
    device: Device
    lane: Lane
    time_limit_s: float

    @property
    def queue(self) -> str:
        """The Celery queue it rings in."""
        return queue_name(self.device, self.lane)

    @property
    def key(self) -> str:
        """What bells of one queue coalesce by."""
        return str(self.version_id)

    @property
    def task(self) -> str:
        """The Celery task that answers it."""
        return DRAIN_TASK

    @property
    def arguments(self) -> dict[str, Any]:
        """The task's arguments, which Flower shows."""
        return {
            "model": self.model,
            "version": self.version,
            "version_id": self.version_id,
            "queue": self.queue,
        }


@dataclass(frozen=True, slots=True)
class DeliveryBell:
    """ "There are deliveries to send." Its members are those of `Doorbell`."""

    time_limit_s: float = 120.0
    queue: ClassVar[str] = "webhooks"
    key: ClassVar[str] = "deliveries"
    task: ClassVar[str] = DELIVER_TASK
    arguments: ClassVar[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class BatchBell:
    """ "There are batches to look at." Its members are those of `Doorbell`."""

    time_limit_s: float = 600.0
    queue: ClassVar[str] = "batches"
    key: ClassVar[str] = "batches"
    task: ClassVar[str] = BOOKKEEP_TASK
    arguments: ClassVar[dict[str, Any]] = {}


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job under lease. `(id, epoch)` is the fencing token: a settle with an old epoch writes nothing."""

    id: UUID
    epoch: int
    input: Any
    attempt: int
    """Model errors before this attempt."""
    crashes: int
    """Worker deaths this job was part of."""
    batch_cap: int | None
    """The largest micro-batch it may be in (None: no cap); shrinks with every crash."""
    execution_timeout_s: float
    retry: RetryPolicy
    told: bool = False
    """Whether a delivery of `job.started` waits to be sent."""
    priority: Priority = Priority.NORMAL
    tenant_id: int = 0
    """Whose it is. 0 is nobody: no file is theirs."""


@dataclass(frozen=True, slots=True)
class PreparedJob:
    """A claimed job whose input was read by the model's own `Input`, with its size in units."""

    job: ClaimedJob
    value: Any
    units: int


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """Jobs of one version that run in one forward pass, in the order the model gets them."""

    jobs: tuple[PreparedJob, ...]

    @property
    def padded_units(self) -> int:
        """What a device computes when every item is padded to the longest."""
        return len(self.jobs) * max(job.units for job in self.jobs)

    @property
    def deadline_s(self) -> float:
        """How long it may run: the shortest patience among its jobs."""
        return min(prepared.job.execution_timeout_s for prepared in self.jobs)


@dataclass(frozen=True, slots=True)
class StoredOutput:
    """An output that lies in the storage. Settle makes it a file, or nobody does."""

    id: UUID
    tenant_id: int
    size: int
    sha256: bytes
    keep_s: float
    """How long it is kept, in seconds."""


@dataclass(frozen=True, slots=True)
class Succeeded:
    """The model answered. `output` is JSON text; if it was too large, it names `file`, which has it."""

    output: bytes
    file: StoredOutput | None = None


@dataclass(frozen=True, slots=True)
class Failed:
    """The model (or its input) is at fault: costs an attempt, and is tried again while `retryable`."""

    code: str
    message: str
    retryable: bool


@dataclass(frozen=True, slots=True)
class Canceled:
    """The model saw the cancel request and stopped."""


@dataclass(frozen=True, slots=True)
class Released:
    """Goes back to the queue without a charge, not to be claimed for `delay_s`."""

    reason: str
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one claimed job came out of infer, and what the device spent on it."""

    job: ClaimedJob
    verdict: Succeeded | Failed | Canceled | Released
    batch_size: int = 0
    units: int = 0
    run_s: float = 0.0
    """Seconds from prepare to finish of its micro-batch."""
    device_s: float = 0.0
    """Its share of the forward pass, by units, in device seconds."""


@dataclass(frozen=True, slots=True)
class SettledJob:
    """What settle wrote for one job; `status` is `queued` when it goes round again."""

    id: UUID
    status: JobStatus
    told: bool = False
    """Whether a delivery of its end waits to be sent."""


@dataclass(frozen=True, slots=True)
class WorkerIdentity:
    """One worker process as the `workers` table knows it."""

    id: UUID
    name: str
    host: str
    pid: int
    pool: str
    purchase: str
    device: str
    queues: tuple[str, ...]
    machine: str = ""
    """What its pool's executor calls the machine it is on."""
