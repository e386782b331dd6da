"""notify: wake whoever waits for these jobs. The message names jobs, never what is in them."""

from collections.abc import Sequence
from uuid import UUID

from pydantic import SecretStr

from app.broker.channels import WAKE_CHANNEL, encode_ids
from app.broker.redis import BestEffort, make_client
from app.domain.stages import SettledJob
from app.observability import metrics


class Notifier:
    """Publishes wake-ups. Never raises: a waiting client that misses one finds out by its own polling."""

    def __init__(self, redis_url: SecretStr) -> None:
        self._redis = BestEffort(make_client(redis_url))

    def settled(self, jobs: Sequence[SettledJob]) -> None:
        """These jobs ended, or went back to the queue."""
        self.changed([job.id for job in jobs])

    def changed(self, ids: Sequence[UUID]) -> None:
        """Something about these jobs is new."""
        if ids:
            metrics.NOTIFY_JOBS.inc(len(ids))
            self._redis.attempt(lambda client: client.publish(WAKE_CHANNEL, encode_ids(ids)))
