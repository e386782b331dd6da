"""The loop of a clerk: take the batch that is due the longest, get it on for a slice, take the next."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from app.broker.ring import Ringer
from app.db import batch_work
from app.db.batch_work import Lease, LeaseLost
from app.db.engine import Engine, make_engine
from app.domain.egress import EgressPolicy
from app.domain.media import MediaPolicy
from app.domain.stages import BatchBell, WorkerIdentity
from app.errors import Unavailable
from app.intake.catalogue import Catalogue
from app.observability import logs
from app.settings import Settings
from app.storage import Storage
from workers.bulk.cancel import cancel, drop
from workers.bulk.desk import Desk, Leave
from workers.bulk.finalize import finalize
from workers.bulk.gather import gather
from workers.bulk.ingest import ingest
from workers.bulk.validate import validate
from workers.drainflag import DrainFlag
from workers.notify import Notifier
from workers.presence import Presence, Slot

log = logs.get_logger()

BELL = BatchBell()

ASK_AGAIN_S = 1.0
"""How soon a cancelling batch is looked at again: a job may have gone back to the queue meanwhile."""

LOOK_S = 30.0
"""How often a running batch is looked at unasked, to add up its tallies. Its end is noticed at once."""

AWAY_S = 5.0
"""After how long a batch is tried again when the storage is away."""

BUG_S = 60.0


@dataclass
class BookReport:
    """What a slice did; Flower shows it as the task's result."""

    batches: int = 0
    failures: int = 0
    ended: str = "empty"
    """Why it ended: `empty`, `slice` or `draining`."""

    def as_result(self) -> dict[str, Any]:
        return asdict(self)


class Clerk(Presence):
    """Keeps the books of batches. A step returns in how many seconds its batch is due, None at its end."""

    def __init__(
        self,
        *,
        engine: Engine,
        ringer: Ringer,
        notifier: Notifier,
        storage: Storage,
        identity: WorkerIdentity,
        settings: Settings,
        flag: DrainFlag,
        clock: Callable[[], float] = time.monotonic,
        end_worker: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(engine, identity, flag, end_worker=end_worker)
        self.engine = engine
        self.ringer = ringer
        self._clock = clock
        self._slice_s = settings.worker.slice_s
        egress = EgressPolicy.of(settings)
        self.desk = Desk(
            engine=engine,
            ringer=ringer,
            notifier=notifier,
            storage=storage,
            catalogue=Catalogue(
                engine, settings.api.cache_ttl_s, clock, MediaPolicy(egress, settings.media.urls)
            ),
            egress=egress,
            settings=settings,
            clock=clock,
            leaving=self.draining,
        )

    @classmethod
    def compose(cls, settings: Settings, slot: Slot) -> "Clerk":
        """The clerk of this slot. Connects to nothing yet: Postgres may be away at this moment."""
        return cls(
            engine=make_engine(
                settings.database_url,
                pool_size=3,
                statement_timeout_s=60,
                lookups_only=True,
                application_name=f"headrace {slot.name}",
            ),
            ringer=Ringer(settings.redis_url),
            notifier=Notifier(settings.redis_url),
            storage=Storage.of(settings),
            identity=slot.identity(settings.worker, "none"),
            settings=settings,
            flag=slot.flag,
            end_worker=slot.end_worker,
        )

    def bookkeep(self) -> BookReport:
        """Get on with what is due until nothing is, or the slice is over. Raises `Unavailable`.

        As with jobs, no lease stays with a clerk that does not work on it: when something goes wrong it
        starts over under a new identity, and what the old one held is due for others.
        """
        with self.busy:
            self.ensure_announced()
            try:
                return self._bookkeep()
            except BaseException:
                self.abandon()
                raise

    def stop(self) -> None:
        """A clean goodbye."""
        self.leave()
        self.engine.dispose()

    def _bookkeep(self) -> BookReport:
        report = BookReport()
        until = self._clock() + self._slice_s
        while True:
            # Cleared before we look: whatever is committed after it rings anew.
            self.ringer.clear(BELL)
            if self.draining():
                report.ended = "draining"
            elif self._clock() >= until:
                report.ended = "slice"
            if report.ended != "empty":
                # Somebody else, or this process later, should go on.
                self.ringer.ring(BELL)
                return report
            batch_work.notice(self.engine)
            lease = batch_work.claim(self.engine, self.identity.id)
            if lease is None:
                return report
            report.batches += 1
            report.failures += not self._get_on(lease)

    def _get_on(self, lease: Lease) -> bool:
        """One step of one batch. False if something was in the way."""
        batch, well = batch_work.read(self.engine, lease.batch_id), True
        try:
            delay_s = self._step(lease, batch)
        except LeaseLost:
            log.warning("bulk.lease_lost", batch=str(batch.id))
            return False
        except Leave:
            delay_s = 0.0
        except Unavailable as error:
            # If it is the database, giving the batch back fails as well, and so does the slice.
            log.warning("bulk.away", batch=str(batch.id), reason=str(error))
            delay_s, well = AWAY_S, False
        except Exception:
            log.exception("bulk.bug", batch=str(batch.id), status=batch.status)
            delay_s, well = BUG_S, False
        if delay_s is not None:
            batch_work.let_go(self.engine, lease, delay_s)
        return well

    def _step(self, lease: Lease, batch: Any) -> float | None:
        desk = self.desk
        if batch.status == "validating":
            if batch.input_file_id is None:
                gather(desk, lease, batch)
                return 0.0
            return validate(desk, lease, batch)
        if batch.status == "cancelling":
            if batch.total is None:
                drop(desk, lease, batch)
                return None
            cancel(desk, lease, batch)
        if batch.ingested < batch.total:
            return ingest(desk, lease, batch)
        counts = batch_work.counts(self.engine, batch.id)
        if sum(counts) >= batch.total:
            finalize(desk, lease, batch)
            return None
        batch_work.compact(self.engine, batch.id)
        return ASK_AGAIN_S if batch.status == "cancelling" else LOOK_S
