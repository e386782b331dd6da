"""The loop of a sender: many deliveries under way at a time, each one's end written soon after it.

The loop lives in a thread of its own for as long as the process: a Celery task only drives it for a slice,
and connections and what is under way outlive the task. Postgres is asked in other threads.
"""

import asyncio
import contextlib
import os
import random
import resource
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import Any
from uuid import UUID

from app.broker.ring import Ringer
from app.db import batches, deliveries, endpoints, jobs
from app.db.deliveries import Claimed, ClaimedDelivery, SettledTry
from app.db.engine import Engine, make_engine
from app.domain.delivery import DeliveryStatus
from app.domain.draining import GOODBYE_S
from app.domain.egress import EgressPolicy
from app.domain.ids import format_id
from app.domain.sealing import CannotOpen, Keyring
from app.domain.signature import new_secret
from app.domain.stages import DeliveryBell, WorkerIdentity
from app.errors import NoRoom, Unavailable
from app.intake import webhook_view
from app.observability import logs, metrics, tracing
from app.settings import Settings
from workers.drainflag import DrainFlag
from workers.egress import Egress
from workers.presence import Presence, Slot
from workers.webhooks.attempt import Ready, alive, attempt, internal_error, unsent
from workers.webhooks.body import MOST_BYTES, body
from workers.webhooks.receivers import Receivers

log = logs.get_logger()

NEWS_S = 0.2
"""How soon a bell is heard by a sender that is awake. What ended meanwhile is claimed together."""

QUIET_S = 1.0
"""How long nothing is claimed while receivers hang and no bell rings: retries that come due wait for it."""

GATHER_S = 0.1
GATHER = 64
"""While any is under way, tries that ended wait this long, for so many, to be written together."""

MOST_IN_A_LINE = 20
"""Tries in a line of the log."""

SETTLE_RETRY_S = 0.5

FULL_S = 80.0
"""How long what was sent waits for a Postgres that has no room: less than Celery gives a slice."""

BELL = DeliveryBell()


@dataclass
class DeliveryReport:
    """What a slice did; Flower shows it as the task's result."""

    claimed: int = 0
    delivered: int = 0
    failed: int = 0
    ended: str = "empty"
    """Why it ended: `empty`, `slice` or `draining`."""

    def as_result(self) -> dict[str, Any]:
        return asdict(self)


class Sender(Presence):
    """Everything a slice needs. `now` is for tests: without it the database's clock is used."""

    def __init__(
        self,
        *,
        engine: Engine,
        ringer: Ringer,
        identity: WorkerIdentity,
        settings: Settings,
        flag: DrainFlag,
        make_egress: Callable[[], Egress] | None = None,
        now: Callable[[], datetime] | None = None,
        jitter: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
        end_worker: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(engine, identity, flag, end_worker=end_worker)
        self.engine = engine
        self.ringer = ringer
        self._settings = settings
        self._keyring = Keyring.of(settings)
        self._base_url = settings.api.public_url or ""
        self._make_egress = make_egress or partial(Egress, EgressPolicy.of(settings))
        self._now = now
        self._jitter = jitter
        self._clock = clock
        self._receivers = Receivers(settings.sender.per_receiver, clock)
        self._report = DeliveryReport()
        # One thread claims, one settles: neither waits for the other.
        self._threads = ThreadPoolExecutor(2, "sender-database")
        self._loop: asyncio.AbstractEventLoop | None = None
        # All below is the loop's own.
        self._egress: Egress | None = None
        # What is leased to us: being sent, or (without a task) about to be written.
        self._under_way: dict[UUID, asyncio.Task[None] | None] = {}
        self._sending = 0
        # A round of claims goes once through all targets: where the next one begins, what it found so far.
        self._after = ""
        self._found = 0
        self._ended: list[SettledTry] = []
        self._settling: asyncio.Task[None] | None = None
        # A receiver that had all it may have was done with one, since the last claim.
        self._freed = False
        self._news = asyncio.Event()

    @classmethod
    def compose(cls, settings: Settings, slot: Slot) -> "Sender":
        """The sender of this slot. Connects to nothing yet: Postgres may be away at this moment."""
        _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
        # A socket for each delivery under way, and for some seconds after it. The usual 1,024 are too few.
        resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
        os.nice(settings.sender.nice)
        # Who wakes up under this policy waits for its turn: a model that runs is not cut short for a bell.
        if sys.platform == "linux":
            with contextlib.suppress(OSError):
                os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        return cls(
            engine=make_engine(
                settings.database_url,
                pool_size=4,
                lookups_only=True,
                application_name=f"headrace {slot.name}",
            ),
            ringer=Ringer(settings.redis_url),
            identity=slot.identity(settings.worker, "none"),
            settings=settings,
            flag=slot.flag,
            end_worker=slot.end_worker,
        )

    def deliver(self) -> DeliveryReport:
        """Send what is due until nothing is, or the slice is over. Raises `Unavailable`.

        As with jobs, no lease stays with a sender that does not work on it: when something goes wrong it
        starts over under a new identity, and what the old one held is sent again.
        """
        with self.busy:
            self.ensure_announced()
            try:
                return self._call(self._deliver())
            except BaseException:
                # What is under way shall not be sent twice because a claim failed.
                self._call(self._finish())
                self.ringer.clear(BELL)
                self.abandon()
                raise

    def stop(self) -> None:
        """Let what is under way end within its deadline, give the rest back, and say goodbye."""
        if self._loop is not None:
            self._call(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
        self.leave()
        self.engine.dispose()

    def _call(self, coroutine: Any) -> Any:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._loop.run_forever, name="sender", daemon=True).start()
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _in_thread(self, call: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    async def _deliver(self) -> DeliveryReport:
        report = self._report = DeliveryReport()
        until = self._clock() + self._settings.worker.slice_s
        while not self._over(report, until):
            if await self._claim():
                await self._wait_for_news(partial(self._sending_at_most, self._sending // 2))
            elif not await self._rings_again():
                return report
        if report.ended == "draining":
            await self._finish()
        # Somebody else, or this process later, should go on.
        await self._in_thread(self._pass_on)
        return report

    def _pass_on(self) -> None:
        # The flag still stands, so without this there would be no message.
        self.ringer.clear(BELL)
        self.ringer.ring(BELL)

    def _over(self, report: DeliveryReport, until: float) -> bool:
        if self.draining():
            report.ended = "draining"
        elif self._clock() >= until:
            report.ended = "slice"
        return report.ended != "empty"

    async def _claim(self) -> bool:
        """Start as many due deliveries as there is room for. Whether more may be due that have room."""
        window = self._settings.sender.in_flight - len(self._under_way)
        if window <= 0:
            return True
        self._receivers.forget_idle()
        self._freed = False
        rooms, room = self._receivers.rooms(), self._receivers.default_room
        claimed, ready, refused = await self._in_thread(self._prepare, window, room, rooms)
        count = len(claimed.deliveries)
        self._report.claimed += count
        if refused:
            self._under_way |= {one.id: None for one in refused}
            self._end(refused)
        for one in ready:
            self._receivers.began(one.delivery.target)
            self._under_way[one.delivery.id] = asyncio.create_task(self._send(one))
            self._sending += 1
        metrics.WEBHOOK_UNDER_WAY.set(len(self._under_way))
        taken = Counter(one.target for one in claimed.deliveries)
        return (
            self._round_goes_on(claimed.reached, count)
            or count == window
            or any(count == rooms.get(target, room) for target, count in taken.items())
        )

    def _round_goes_on(self, reached: str, claimed: int) -> bool:
        """Whether targets are left that this round has not seen, or another round may find something."""
        first, last = not self._after, not reached
        self._after, self._found = reached, self._found + claimed
        if not last:
            return True
        found, self._found = self._found, 0
        return not first and found > 0

    def _prepare(
        self, window: int, room: int, rooms: dict[str, int]
    ) -> tuple[Claimed, list[Ready], list[SettledTry]]:
        """In a thread: claim, read the jobs, make the bodies.

        Returns what was claimed, and of it the ready ones and those that are not sent.
        """
        now = self._now() if self._now else None
        # Before the claim: whatever is committed after it rings anew.
        self.ringer.hear(BELL)
        claimed = deliveries.claim(
            self.engine, self.identity.id, window=window, room=room, rooms=rooms, after=self._after, now=now
        )
        wanted = [delivery.job_id for delivery in claimed.deliveries if delivery.job_id is not None]
        rows = jobs.for_webhooks(self.engine, wanted, MOST_BYTES) if wanted else {}
        for delivery in claimed.deliveries:
            if delivery.batch_id is not None and delivery.batch_id not in rows:
                rows[delivery.batch_id] = batches.get(self.engine, delivery.tenant_id, delivery.batch_id)
        ready: list[Ready] = []
        refused: list[SettledTry] = []
        for delivery in claimed.deliveries:
            if delivery.endpoint_id is not None and delivery.endpoint_status is None:
                refused.append(unsent(delivery, DeliveryStatus.CANCELED))
            elif delivery.endpoint_status == "disabled":
                refused.append(unsent(delivery, DeliveryStatus.FAILED, "endpoint_disabled"))
            else:
                self._make_ready(delivery, rows, ready, refused)
        return claimed, ready, refused

    def _make_ready(
        self, delivery: ClaimedDelivery, rows: dict[UUID, Any], ready: list[Ready], refused: list[SettledTry]
    ) -> None:
        try:
            about = delivery.job_id or delivery.batch_id
            content = body(delivery, rows.get(about) if about else None, self._base_url)
            if content is None:
                gone = "job_gone" if delivery.job_id else "batch_gone"
                refused.append(unsent(delivery, DeliveryStatus.FAILED, gone))
            else:
                ready.append(Ready(delivery, content, self._secrets(delivery)))
        except CannotOpen as error:
            log.error("webhook.secret_unreadable", delivery=str(delivery.id), reason=str(error))
            refused.append(internal_error(delivery, self._jitter()))
        except Unavailable:
            raise
        except Exception:
            log.exception("webhook.bug", delivery=str(delivery.id))
            refused.append(internal_error(delivery, self._jitter()))

    def _secrets(self, delivery: ClaimedDelivery) -> list[str]:
        if delivery.endpoint_id is not None:
            owner = endpoints.endpoint_owner(delivery.endpoint_id)
        else:
            owner = endpoints.tenant_owner(delivery.tenant_id)
        sealed = [delivery.secret, delivery.previous_secret]
        if delivery.secret is None:
            fresh = self._keyring.seal(new_secret(), owner)
            sealed[0] = endpoints.default_secret(self.engine, delivery.tenant_id, fresh).secret
        return [self._keyring.open(text, owner) for text in sealed if text]

    async def _send(self, ready: Ready) -> None:
        delivery = ready.delivery
        if self._egress is None:
            self._egress = self._make_egress()
        try:
            tried = await attempt(
                ready, self._egress, self._settings.sender, self._now or _wall_clock, self._jitter
            )
        except asyncio.CancelledError:
            self._receivers.gave_back(delivery.target)
            self._end([unsent(delivery, DeliveryStatus.PENDING)])
            return
        except Exception:
            log.exception("webhook.bug", delivery=str(delivery.id))
            tried = internal_error(delivery, self._jitter())
        finally:
            self._sending -= 1
            self._freed |= self._receivers.full(delivery.target)
            self._news.set()
        (self._receivers.answered if alive(tried) else self._receivers.failed)(delivery.target)
        self._observe(delivery, tried)
        self._end([tried])

    def _observe(self, delivery: ClaimedDelivery, tried: SettledTry) -> None:
        outcome = tried.error or "delivered"
        metrics.WEBHOOK_TRIES.labels(outcome).inc()
        about = delivery.job_id or delivery.batch_id
        tracing.delivered(about, delivery.event, str(outcome), tried.latency_s or 0.0)
        if tried.latency_s is not None:
            metrics.WEBHOOK_SECONDS.observe(tried.latency_s)
        if tried.status is DeliveryStatus.DELIVERED:
            self._report.delivered += 1
            if not delivery.attempt:
                delay = (self._now or _wall_clock)() - delivery.created_at
                metrics.WEBHOOK_DELAY_SECONDS.observe(max(0.0, delay.total_seconds()))
        else:
            self._report.failed += 1

    def _end(self, tries: Sequence[SettledTry]) -> None:
        """Write these soon: whatever ends within `GATHER_S`, or while others are written, goes with them."""
        self._ended += tries
        self._news.set()
        if self._settling is None or self._settling.done():
            self._settling = asyncio.create_task(self._settle())

    async def _settle(self) -> None:
        while self._ended:
            await self._gather()
            tries, self._ended = self._ended, []
            if not await self._write(tries):
                # Nobody else takes what is leased to a live sender: under a new identity it is sent again.
                log.warning("webhook.settle_lost", deliveries=len(tries))
                self.abandon()
            for tried in tries:
                self._under_way.pop(tried.id, None)
            metrics.WEBHOOK_UNDER_WAY.set(len(self._under_way))
            self._news.set()

    async def _gather(self) -> None:
        """Until all that is under way has ended, `GATHER` have, or `GATHER_S` passed."""
        await self._wait_for_news(lambda: not self._sending or len(self._ended) >= GATHER, GATHER_S)

    async def _write(self, tries: list[SettledTry]) -> bool:
        began, patience_s = self._clock(), self._settings.worker.lease_ttl_s * 0.8
        while True:
            try:
                await self._in_thread(self._settle_now, tries)
                return True
            except Unavailable as error:
                # While Postgres answers, heartbeats get through, and nobody else sends these.
                if self._clock() - began >= (FULL_S if isinstance(error, NoRoom) else patience_s):
                    return False
                await asyncio.sleep(SETTLE_RETRY_S)
            except Exception:
                log.exception("webhook.settle_failed")
                return False

    def _settle_now(self, tries: list[SettledTry]) -> None:
        now = self._now() if self._now else None
        settled = deliveries.settle(self.engine, tries, now)
        for tried in tries:
            if tried.status is DeliveryStatus.FAILED and tried.id in settled.ids:
                metrics.WEBHOOK_GIVEN_UP.inc()
        for first in range(0, len(tries), MOST_IN_A_LINE):
            written = [one for one in tries[first : first + MOST_IN_A_LINE] if one.id in settled.ids]
            log.info("webhook.tries", tries=[_told(tried) for tried in written])
        for endpoint_id, reason in settled.disable:
            if endpoints.disable(self.engine, endpoint_id, reason, webhook_view.endpoint, now):
                log.warning("webhook.endpoint_disabled", endpoint=str(endpoint_id), reason=reason)

    async def _wait_for_news(self, come: Callable[[], bool], seconds: float = NEWS_S) -> None:
        """Until `come` holds, or `seconds` passed."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while not come():
                    self._news.clear()
                    await self._news.wait()

    def _sending_at_most(self, enough: int) -> bool:
        return self._sending <= enough

    async def _rings_again(self) -> bool:
        """Wait for what makes a claim worth while: a bell, room at a receiver that was full, a retry's time.

        False if all has ended and no bell rang for as long as an idle child lingers: the next one comes
        through Celery. Asking Redis costs a tenth of a claim; receivers that hang may keep us here all day.
        """
        quiet_until = self._clock() + QUIET_S
        while self._under_way and not self._freed and self._clock() < quiet_until:
            await self._wait_for_news(lambda: self._freed or not self._under_way)
            if await self._in_thread(self.ringer.rung, BELL.queue):
                return True
        if self._under_way or self._freed:
            return True
        for _ in range(ceil(self._settings.worker.linger_s / NEWS_S)):
            await asyncio.sleep(NEWS_S)
            if self.draining() or await self._in_thread(self.ringer.rung, BELL.queue):
                return True
        return not await self._in_thread(self.ringer.leave_off, BELL)

    async def _finish(self) -> None:
        """Let what is under way end; what has not by its deadline, or soon before the machine goes, is given
        back, and costs no try.
        """
        tasks = [task for task in self._under_way.values() if task is not None]
        if tasks:
            patience_s, left_s = self._settings.sender.deadline_s, self.time_left_s()
            if left_s is not None:
                patience_s = min(patience_s, max(0.0, left_s - GOODBYE_S))
            await asyncio.wait(tasks, timeout=patience_s)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        while self._settling is not None and not self._settling.done():
            await self._settling

    async def _close(self) -> None:
        await self._finish()
        if self._egress is not None:
            await self._egress.close()


def _wall_clock() -> datetime:
    return datetime.now(UTC)


def _told(tried: SettledTry) -> dict[str, Any]:
    return {
        "delivery": format_id("dlv", tried.id),
        "job": format_id("job", tried.job_id) if tried.job_id else None,
        "batch": format_id("batch", tried.batch_id) if tried.batch_id else None,
        "status": tried.status.value,
        "error": tried.error,
        "code": tried.status_code,
    }
