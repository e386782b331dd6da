"""The channel on which "something changed" is said of jobs: ids only, no tenant data."""

from collections.abc import Iterable
from uuid import UUID

WAKE_CHANNEL = "headrace:wake"
"""A message is job ids joined by commas: each started, progressed or ended just now."""


def encode_ids(ids: Iterable[UUID]) -> str:
    """The message for these jobs."""
    return ",".join(job_id.hex for job_id in ids)


def decode_ids(message: bytes | str) -> list[UUID]:
    """The jobs of a message. What is no id is skipped: anyone may publish on a channel."""
    text = message.decode("ascii", "replace") if isinstance(message, bytes) else message
    ids = []
    for part in text.split(","):
        if len(part) == 32:
            try:
                ids.append(UUID(hex=part))
            except ValueError:
                continue
    return ids
