"""What becomes of a batch, and what the API shows of it. Its jobs have states of their own.

    validating ──► in_progress ──► finalizing ──► completed
        │ │             │ │            ▲  │ │
        │ │             │ └─ expire ───┘  │ └──► expired
        │ │             │                 │
        │ └──── cancel ─┴─► cancelling ───┴────► cancelled
        └──► failed

The clerk alone moves a batch, but for one step: a client asks to cancel.
"""

from enum import StrEnum


class BatchStatus(StrEnum):
    """OpenAI's, in its spelling."""

    VALIDATING = "validating"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


ENDED = frozenset({BatchStatus.COMPLETED, BatchStatus.FAILED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})
