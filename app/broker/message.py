"""The Celery message of a bell, made by Celery and kombu themselves, once per bell.

`send_task` costs more than everything else that a submit does: it builds, signs and routes each message
anew, in several round trips. A bell's message is always the same but for its id and its expiry, so one
is sent to a broker in memory, and what arrives there is kept as a template. kombu's in-memory and Redis
transports share one wire format (`kombu.transport.virtual`); tests let a real worker read it.
"""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

from celery import Celery
from kombu import Connection
from kombu.utils.json import dumps

from app.domain.stages import BatchBell, DeliveryBell, Doorbell

_ID = "00000000-0000-0000-0000-000000000000"
_EXPIRES = datetime(2999, 1, 1, tzinfo=UTC)
_TAG = "delivery-tag"


Bell = Doorbell | DeliveryBell | BatchBell


class BellMessages:
    """Encodes doorbells as the Redis transport would."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._templates: dict[Bell, str] = {}

    def encode(self, bell: Bell, ttl_s: float) -> str:
        """The message to push to the bell's queue: a new id each time, void after `ttl_s` seconds."""
        template = self._templates.get(bell)
        if template is None:
            template = self._templates[bell] = self._make(bell)
        expires = (datetime.now(UTC) + timedelta(seconds=ttl_s)).isoformat()
        unique = str(uuid4())
        return template.replace(_ID, unique).replace(_TAG, unique).replace(_EXPIRES.isoformat(), expires)

    def _make(self, bell: Bell) -> str:
        with Connection("memory://") as memory:
            self._celery.send_task(
                bell.task,
                kwargs=bell.arguments,
                task_id=_ID,
                queue=bell.queue,
                connection=memory,
                expires=_EXPIRES,
                time_limit=bell.time_limit_s,
                ignore_result=True,
                retry=False,
            )
            message = memory.default_channel._get(bell.queue)
        message["properties"]["delivery_tag"] = _TAG
        message["properties"].pop("expiration", None)
        return str(dumps(message))
