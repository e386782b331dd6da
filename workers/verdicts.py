"""What an exception of a model means for its job."""

from app.domain.stages import Failed
from app.errors import JobError
from workers.runners.device import is_out_of_memory

MAX_MESSAGE = 2000
"""Characters of a model's error message that are kept."""


def verdict_of(error: Exception) -> Failed:
    """Only `JobError` says whether a retry makes sense; anything else is tried again, since most of what
    models raise in production passes.
    """
    if isinstance(error, JobError):
        return Failed(error.code, error.message[:MAX_MESSAGE], error.retryable)
    if is_out_of_memory(error):
        return Failed("out_of_memory", "there is too little memory for this input alone", False)
    return Failed("model_error", f"{type(error).__name__}: {error}"[:MAX_MESSAGE], True)
