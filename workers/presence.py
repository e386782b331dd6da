"""A worker process as the others see it: its row in `workers`, its heartbeat, its leaving."""

import math
import os
import signal
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

from app.db import workers
from app.db.engine import Engine
from app.domain.draining import DrainCause
from app.domain.ids import new_uuid
from app.domain.stages import WorkerIdentity
from app.observability import metrics
from app.settings import Worker as WorkerSettings
from workers.drainflag import DrainFlag
from workers.lease import Lease
from workers.runners.learned import LearnedCaps
from workers.siblings import Siblings


@dataclass(frozen=True)
class Slot:
    """Which child of which Celery worker a process is."""

    name: str
    queues: tuple[str, ...]
    number: int
    children: int
    flag: DrainFlag
    siblings: Siblings
    learned: LearnedCaps
    parent: int = 0
    """The worker's own process; 0: none that is to be told to end."""

    def end_worker(self) -> None:
        """Ask the parent to end, as whoever runs it would: its children finish as they are told to."""
        if self.parent and os.getppid() == self.parent:
            self.flag.by_ourselves()
            os.kill(self.parent, signal.SIGTERM)

    def identity(self, settings: WorkerSettings, device: str) -> WorkerIdentity:
        """Who the process in this slot is, from now on."""
        return WorkerIdentity(
            id=new_uuid(),
            name=f"{self.name}/{self.number}",
            host=host_identity(),
            pid=os.getpid(),
            pool=settings.pool,
            purchase=settings.purchase,
            device=device,
            queues=self.queues,
            machine=settings.machine or socket.gethostname(),
        )


class Presence:
    """Who this process is. Leases are held in this name, and are lost with it."""

    def __init__(
        self,
        engine: Engine,
        identity: WorkerIdentity,
        flag: DrainFlag,
        status: Callable[[], dict[str, Any]] = dict,
        end_worker: Callable[[], object] = lambda: None,
        lease: Lease | None = None,
    ) -> None:
        self.identity = identity
        self.lease = lease or Lease(math.inf)
        self.busy = threading.Lock()
        """Held by whoever works under this identity: the Celery task, or the lifeline while Redis is away."""
        self._engine = engine
        self._flag = flag
        self._status = status
        self._end_worker = end_worker
        self._told: tuple[UUID, DrainCause | None] | None = None
        self._counted = False
        self._announcing = threading.Lock()
        self._announced = False
        self._former: UUID | None = None

    def ensure_announced(self) -> None:
        """Register in `workers` unless that is done, and declare dead the siblings of this machine whose
        processes no longer exist. Raises `Unavailable`.
        """
        with self._announcing:
            if self._announced:
                return
            if self._former is not None:
                workers.stop(self._engine, self._former)
                self._former = None
            sent_at = self.lease.now()
            workers.register(self._engine, self.identity)
            self.lease.renew(sent_at)
            self._announced = True
            gone = [id for id, pid in workers.siblings(self._engine, self.identity) if not _alive(pid)]
            if gone:
                for cause in workers.bury(self._engine, gone):
                    metrics.RESCUE_WORKERS.labels(cause).inc()

    def begin(self) -> None:
        """Be somebody whose leases last: who was silent for too long starts over under a new identity.

        Called before claiming, while nothing is held. Raises `Unavailable`.
        """
        if self.lease.is_over():
            self.abandon()
        self.ensure_announced()

    def abandon(self) -> None:
        """Give up this identity and with it every lease it may hold; the next work has a new one."""
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
        sent_at = self.lease.now()
        seen = workers.heartbeat(self._engine, identity.id, self._status())
        if seen is not None and self.identity.id == identity.id:
            self.lease.renew(sent_at)
        if seen is not None and seen.state == "draining" and not self._flag.is_set():
            # An operator said so. The whole worker leaves: its parent would replace a child that left alone.
            if self._flag.enter(DrainCause.OPERATOR, seen.left_s):
                self._end_worker()
        elif seen is None:
            with self.busy:
                if self.identity.id == identity.id:
                    self.abandon()
            self.ensure_announced()

    def draining(self) -> bool:
        """Whether to stop claiming: whatever the cause, it is one state."""
        return self._flag.is_set()

    def drain_cause(self) -> DrainCause | None:
        """Why this worker is draining; None if it is not."""
        return self._flag.cause

    def time_left_s(self) -> float | None:
        """Seconds until the machine goes; None if that is not known."""
        return self._flag.left_s()

    def is_busy(self) -> bool:
        """Whether somebody works under this identity now."""
        return self.busy.locked()

    def tell_draining(self) -> None:
        """Have the row say that this process is draining, why and until when. Raises `Unavailable`."""
        with self._announcing:
            told = (self.identity.id, self._flag.cause)
            if self._announced and told != self._told and told[1] is not None:
                workers.drain(self._engine, told[0], told[1], self._flag.left_s())
                self._count_drain()
                self._told = told

    def _count_drain(self) -> None:
        cause = self._flag.cause
        if cause is not None and not self._counted:
            self._counted = True
            metrics.DRAIN_CHILDREN.labels(cause).inc()

    def leave(self) -> None:
        """A clean goodbye: whatever is still leased may be taken at once."""
        if self._announced:
            workers.stop(self._engine, self.identity.id, self._flag.cause)
            self._count_drain()


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
