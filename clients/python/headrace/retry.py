"""Which errors are worth another try, and how long to pause before it.

Exponential backoff with full jitter: the pause is uniform between nothing and a ceiling that
doubles, so that clients that failed together don't come back together.
Source: M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.
"""

from dataclasses import dataclass, replace

from headrace.errors import APIConnectionError, APIError, HeadraceError, RateLimitError
from headrace.problems import TRANSIENT_STATUSES


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how patiently a request is tried again."""

    max_retries: int = 4
    initial_s: float = 0.5
    max_s: float = 8.0
    max_retry_after_s: float = 60.0
    """The longest `Retry-After` that is waited out; above it the error is raised at once."""

    def pause(self, error: HeadraceError, retries: int, chance: float) -> float | None:
        """Seconds before the next try after `retries` of them failed, or None to give up."""
        if retries >= self.max_retries or not is_transient(error):
            return None
        jitter = chance * min(self.initial_s * 2**retries, self.max_s)
        asked = error.retry_after if isinstance(error, APIError) else None
        if asked is None:
            return jitter
        if asked > self.max_retry_after_s:
            return None
        # Not before the server's time, and not all clients at it.
        return asked + chance * self.initial_s

    def patient(self) -> "RetryPolicy":
        """For whoever waits for a job anyway: about half a minute by default, so that a restart of the
        server is not the end of the wait."""
        return replace(self, max_retries=3 * self.max_retries)


def is_transient(error: HeadraceError) -> bool:
    """Whether the same request may well succeed later.

    Whether it may be sent twice is another question: see `was_refused`.
    """
    if isinstance(error, APIConnectionError):
        return error.retryable
    if not isinstance(error, APIError):
        return False
    if error.code == "idempotency_in_flight":
        return True
    return error.status in TRANSIENT_STATUSES and error.retryable


def was_refused(error: HeadraceError) -> bool:
    """Whether the request surely had no effect, so that even one that must not be done twice may be
    sent again. After a connection that broke, or a proxy's 502, nobody knows."""
    return isinstance(error, RateLimitError)
