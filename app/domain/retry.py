"""When a job is tried again: backoff after the model's own errors, shrinking batches after crashes."""

from dataclasses import dataclass
from math import isqrt


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Counts the model's own errors only; worker loss and preemption are counted apart."""

    max_attempts: int = 3
    initial_delay_ms: int = 1000
    max_delay_ms: int = 60_000

    def delay_s(self, attempt: int, jitter: float) -> float:
        """Seconds to wait after `attempt` failed (the first is 1).

        Exponential with equal jitter: half is fixed and half random, so that retries spread out but
        never come at once. `jitter` is in [0, 1).
        Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
        """
        ceiling = min(self.initial_delay_ms * 2 ** min(attempt - 1, 30), self.max_delay_ms)
        return ceiling * (0.5 + 0.5 * jitter) / 1000

    def again(self, attempt: int, retryable: bool) -> bool:
        """Whether another attempt follows after `attempt` failed."""
        return retryable and attempt < self.max_attempts


def cap_after_crash(batch_size: int, crashes: int, max_crashes: int) -> int:
    """The largest micro-batch a job may be in after its `crashes`-th worker death, in one of `batch_size`.

    The square root isolates one poison among n in two steps (32 → 5 → 1), and the last try before the
    job is given up is always alone, so that a batch-mate never fails for another's crash.
    """
    if crashes >= max_crashes - 1:
        return 1
    return max(1, isqrt(batch_size))
