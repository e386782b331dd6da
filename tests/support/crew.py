"""Children that run in the test's own process, on real Postgres and Valkey."""

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from app.broker.ring import Ringer
from app.db import models
from app.db.engine import make_engine
from app.domain.ids import new_uuid
from app.domain.media import MediaPolicy
from app.domain.model import ModelVersion
from app.domain.stages import WorkerIdentity
from app.intake.source import spec_of
from app.settings import Media as MediaSettings
from app.settings import Worker as WorkerSettings
from app.storage.store import NoStorage
from tests.support import models as test_models
from tests.support.jobs import Queue
from workers.child import Child
from workers.drainflag import DrainFlag
from workers.media.stage import MediaStage
from workers.notify import Notifier
from workers.outputs import Outputs
from workers.presence import host_identity
from workers.runners.cache import RunnerCache
from workers.runners.local import LocalRunner


def make_child(database_url: str, redis_url: str, **changes: Any) -> Child:
    """A child as `Child.start` composes it, without a Celery worker around it."""
    queues = changes.pop("queues", ("cpu.interactive",))
    pid = changes.pop("pid", 1)
    engine = make_engine(SecretStr(database_url), pool_size=4, lookups_only=True)
    parts: dict[str, Any] = {
        "engine": engine,
        "media": MediaStage(engine, NoStorage(), MediaPolicy(), MediaSettings()),
        "outputs": Outputs(engine, NoStorage(), 262_144, 200_000_000, 86_400),
        "ringer": Ringer(SecretStr(redis_url)),
        "notifier": Notifier(SecretStr(redis_url)),
        "runners": RunnerCache(lambda spec: LocalRunner.load(spec, "cpu"), budget_mb=4096),
        "identity": WorkerIdentity(
            id=new_uuid(),
            name="test/0",
            host=host_identity(),
            pid=pid,
            pool="default",
            purchase="on_demand",
            device="cpu",
            queues=queues,
        ),
        "settings": WorkerSettings(linger_s=0),
        "flag": DrainFlag(),
    }
    return Child(**{**parts, **changes})


def register(queue: Queue, name: str) -> ModelVersion:
    """Register one of `tests/support/models.py` by its class name."""
    spec = spec_of(f"{Path(test_models.__file__)}:{name}")
    models.register(queue.engine, spec, actor="test")
    version = models.find(queue.engine, spec.name, None)
    assert version is not None
    return version
