"""One Celery child: what it holds, from its first breath after the fork to its goodbye."""

import os
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from uuid import UUID

from app.broker.ring import Ringer
from app.db import models, workers
from app.db.engine import Engine, make_engine
from app.domain.ids import new_uuid
from app.domain.model import ModelVersion
from app.domain.stages import WorkerIdentity
from app.intake.cache import TtlCache
from app.settings import Settings
from app.settings import Worker as WorkerSettings
from workers.drainflag import DrainFlag
from workers.notify import Notifier
from workers.runners import device as devices
from workers.runners.cache import RunnerCache
from workers.runners.local import LocalRunner

VERSION_TTL_S = 2.0


class Child:
    """Everything a drain needs. Made once per child, after the fork: no connection crosses a fork."""

    def __init__(
        self,
        *,
        engine: Engine,
        ringer: Ringer,
        notifier: Notifier,
        runners: RunnerCache,
        identity: WorkerIdentity,
        settings: WorkerSettings,
        flag: DrainFlag,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.engine = engine
        self.ringer = ringer
        self.notifier = notifier
        self.runners = runners
        self.identity = identity
        self.settings = settings
        self.clock = clock
        self._versions: TtlCache[int, ModelVersion] = TtlCache(100, VERSION_TTL_S, clock)
        self.busy = threading.Lock()
        """Held by whoever runs a drain: the Celery task, or the lifeline while Redis is away."""
        self._flag = flag
        self._told_to_drain = False
        self._announcing = threading.Lock()
        self._announced = False
        self._former: UUID | None = None

    @classmethod
    def start(
        cls,
        settings: Settings,
        *,
        name: str,
        queues: tuple[str, ...],
        slot: int,
        children: int,
        flag: DrainFlag,
    ) -> "Child":
        """Compose a child. Connects to nothing yet: Postgres may be away at this moment."""
        device = devices.choose(settings.worker.device, slot)
        devices.limit_threads(settings.worker.torch_threads, children)
        identity = WorkerIdentity(
            id=new_uuid(),
            name=f"{name}/{slot}",
            host=host_identity(),
            pid=os.getpid(),
            pool=settings.worker.pool,
            purchase=settings.worker.purchase,
            device=device,
            queues=queues,
        )
        return cls(
            engine=make_engine(
                settings.database_url, pool_size=3, lookups_only=True, application_name=f"headrace {name}"
            ),
            ringer=Ringer(settings.redis_url),
            notifier=Notifier(settings.redis_url),
            runners=RunnerCache(
                lambda spec: LocalRunner.load(spec, device), settings.worker.memory_budget_mb
            ),
            identity=identity,
            settings=settings.worker,
            flag=flag,
        )

    def version(self, version_id: int) -> ModelVersion | None:
        """The registered version with this id, as it was at most `VERSION_TTL_S` ago."""
        return self._versions.get(version_id, lambda: models.by_id(self.engine, version_id))

    def ensure_announced(self) -> None:
        """Register in `workers` unless that is done, and declare dead the siblings of this machine whose
        processes no longer exist. Raises `Unavailable`.
        """
        with self._announcing:
            if self._announced:
                return
            if self._former is not None:
                workers.stop(self.engine, self._former)
                self._former = None
            workers.register(self.engine, self.identity)
            self._announced = True
            gone = [id for id, pid in workers.siblings(self.engine, self.identity) if not _alive(pid)]
            if gone:
                workers.bury(self.engine, gone)

    def abandon(self) -> None:
        """Give up this identity and with it every lease it may hold; the next drain has a new one."""
        with self._announcing:
            if self._announced:
                self._former = self.identity.id
            self.identity = replace(self.identity, id=new_uuid())
            self._announced = False

    def heartbeat(self) -> None:
        """Say "still here". A worker that was declared dead meanwhile starts over under a new identity:
        its leases are somebody else's by now. Raises `Unavailable`.
        """
        self.ensure_announced()
        identity = self.identity
        state = workers.heartbeat(self.engine, identity.id, self.runners.status())
        self._told_to_drain = state == "draining"
        if state is None:
            with self.busy:
                if self.identity.id == identity.id:
                    self.abandon()
            self.ensure_announced()

    def draining(self) -> bool:
        """Whether to stop claiming: the worker is shutting down, or an operator said so."""
        return self._flag.is_set() or self._told_to_drain

    def stop(self) -> None:
        """A clean goodbye: whatever is still leased may be taken at once."""
        if self._announced:
            workers.stop(self.engine, self.identity.id)
        self.engine.dispose()


def host_identity() -> str:
    """Names the machine a pid means something on: host name, boot and pid namespace."""
    parts = [socket.gethostname()]
    for source in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        path = Path(source)
        try:
            parts.append(os.readlink(path) if path.is_symlink() else path.read_text().strip())
        except OSError:
            continue
    return "/".join(parts)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _zombie(pid)


def _zombie(pid: int) -> bool:
    """A killed process stays in the table until its parent asks for it; it will do nothing more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (OSError, IndexError):
        return False
