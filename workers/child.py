"""One Celery child: what it holds, from its first breath after the fork to its goodbye."""

import threading
import time
from collections.abc import Callable, Iterator

from app.broker.ring import Ringer
from app.db import models, speeds
from app.db.engine import Engine, make_engine
from app.domain.egress import EgressPolicy
from app.domain.lanes import parse_queue
from app.domain.media import MediaPolicy
from app.domain.model import ModelVersion
from app.domain.stages import WorkerIdentity
from app.errors import Unavailable
from app.intake.cache import TtlCache
from app.observability import logs
from app.settings import Settings
from app.settings import Worker as WorkerSettings
from app.storage import Storage
from workers.ahead import Ahead
from workers.behind import Behind
from workers.borrow import Borrowed
from workers.company import Company
from workers.drainflag import DrainFlag
from workers.held import Held
from workers.lease import Lease
from workers.media.stage import MediaStage
from workers.notify import Notifier
from workers.outputs import Outputs
from workers.presence import Presence, Slot
from workers.runners import device as devices
from workers.runners.cache import RunnerCache
from workers.runners.local import LoadFailed, LocalRunner
from workers.siblings import Siblings

log = logs.get_logger()

VERSION_TTL_S = 2.0


class Child(Presence):
    """Everything a drain needs. Made once per child, after the fork: no connection crosses a fork."""

    def __init__(
        self,
        *,
        engine: Engine,
        ringer: Ringer,
        notifier: Notifier,
        runners: RunnerCache,
        media: MediaStage,
        outputs: Outputs,
        identity: WorkerIdentity,
        settings: WorkerSettings,
        flag: DrainFlag,
        slot: int = 0,
        children: int = 1,
        siblings: Siblings | None = None,
        clock: Callable[[], float] = time.monotonic,
        end_worker: Callable[[], object] = lambda: None,
    ) -> None:
        lease = Lease(settings.lease_ttl_s, clock)
        super().__init__(engine, identity, flag, runners.status, end_worker, lease)
        self.engine = engine
        self.ringer = ringer
        self.notifier = notifier
        self.runners = runners
        self.media = media
        self.outputs = outputs
        self.settings = settings
        self.clock = clock
        self.behind = Behind()
        self.held = Held(clock)
        self.ahead = Ahead(identity.device.startswith("cuda"))
        self.company = Company(clock)
        # Who says how many threads a child has gets as many.
        self.borrowed = Borrowed(identity.device == "cpu" and not settings.torch_threads)
        self.children = children
        self._slot = slot
        self._siblings = siblings or Siblings()
        self.works(False)
        self._versions: TtlCache[int, ModelVersion] = TtlCache(100, VERSION_TTL_S, clock)

    @classmethod
    def compose(cls, settings: Settings, slot: Slot) -> "Child":
        """The child of this slot. Connects to nothing yet: Postgres may be away at this moment."""
        device = devices.choose(settings.worker.device, slot.number)
        devices.limit_threads(settings.worker.torch_threads, slot.children)
        engine = make_engine(
            settings.database_url,
            # Work, settling behind, claiming ahead, and the heartbeat.
            pool_size=4,
            lookups_only=True,
            application_name=f"headrace {slot.name}",
        )
        storage = Storage.of(settings)
        policy = MediaPolicy(EgressPolicy.of(settings), settings.media.urls)
        return cls(
            engine=engine,
            ringer=Ringer(settings.redis_url),
            notifier=Notifier(settings.redis_url),
            runners=RunnerCache(
                lambda spec: LocalRunner.load(
                    spec, device, settings.worker.exports_dir, settings.worker.longest_s, slot.learned
                ),
                settings.worker.memory_budget_mb,
            ),
            media=MediaStage(engine, storage, policy, settings.media),
            outputs=Outputs(
                engine,
                storage,
                settings.worker.inline_output_bytes,
                settings.files.max_bytes,
                # A job's record goes with the partition of its day: a day later at most.
                keep_s=(settings.scheduler.retention_days + 1) * 86_400,
            ),
            identity=slot.identity(settings.worker, device),
            settings=settings.worker,
            flag=slot.flag,
            slot=slot.number,
            children=slot.children,
            siblings=slot.siblings,
            end_worker=slot.end_worker,
        )

    def heartbeat(self) -> None:
        """As every process's, and how fast this one works: what a backlog is worth is known by it."""
        super().heartbeat()
        speeds.note(self.engine, self.identity.pool, self.runners.worked())

    def version(self, version_id: int) -> ModelVersion | None:
        """The registered version with this id, as it was at most `VERSION_TTL_S` ago."""
        return self._versions.get(version_id, lambda: models.by_id(self.engine, version_id))

    def works(self, busy: bool) -> None:
        """Tell the other children of this worker whether this one has something to do."""
        self._siblings.set(self._slot, busy)

    def idle_siblings(self) -> int:
        """How many other children of this worker have nothing to do."""
        return max(0, self.children - 1 - self._siblings.others(self._slot, self.children))

    def preload(self, holding: threading.Event) -> None:
        """Load and warm up what the settings name, before the first claim. Sets `holding` once no drain
        can begin before that is done. What can't be loaded is logged, and tried again when a job asks.
        """
        with self.busy:
            holding.set()
            for version in self._wanted():
                label = f"{version.spec.name}@{version.spec.version}"
                started = self.clock()
                try:
                    self.runners.get(version)
                except LoadFailed as error:
                    log.warning("preload.failed", model=label, reason=str(error))
                else:
                    log.info("preload.loaded", model=label, seconds=round(self.clock() - started, 3))

    def _wanted(self) -> Iterator[ModelVersion]:
        """Lazily: what fits depends on what was loaded before."""
        try:
            yield from self._named()
        except Unavailable as error:
            log.warning("preload.skipped", reason=str(error))

    def _named(self) -> Iterator[ModelVersion]:
        if self.settings.preload == ("all",):
            devices_served = {parse_queue(queue)[0] for queue in self.identity.queues}
            for version, row in models.list_all(self.engine):
                if row.current and version.spec.device in devices_served and self.runners.fits(version):
                    yield version
            return
        for name in self.settings.preload:
            model, _, number = name.partition("@")
            found = models.find(self.engine, model, number or None)
            if found is None:
                log.warning("preload.unknown", model=name)
            else:
                yield found

    def stop(self) -> None:
        """A clean goodbye."""
        self.works(False)
        self.media.stop()
        self.leave()
        self.engine.dispose()
