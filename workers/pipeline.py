"""claim → batch → infer → settle → notify on one page: what a child does when a doorbell rings.

clear the flag ─► claim a window ─► (more left? ring, so that other children start)
      ▲               │             (or take the one that was claimed ahead, see `ahead.py`)
      │               ▼
      │            batch ─► for each micro-batch: infer ─► settle ─► notify
      │               │
      └─ slice over, work left: ring again, end ◄─┘
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from itertools import chain
from typing import Any
from uuid import UUID

from app.broker.ring import doorbell_for
from app.db import upkeep, workers
from app.db.claim import Claimed
from app.domain.ids import batch_of
from app.domain.lanes import Lane, queue_name
from app.domain.model import ModelVersion
from app.domain.planning import Caps
from app.domain.stages import (
    BatchBell,
    Canceled,
    ClaimedJob,
    DeliveryBell,
    Doorbell,
    Failed,
    MicroBatch,
    Outcome,
    PreparedJob,
    Released,
    SettledJob,
)
from app.domain.states import Reason
from app.domain.window import Window, window_for
from app.errors import NoRoom, Unavailable
from app.observability import logs, metrics, tracing
from workers.batch import batch
from workers.child import Child
from workers.claim import claim
from workers.context import BatchContext
from workers.infer import Running, infer
from workers.learn import learn
from workers.runners.base import Runner
from workers.runners.cache import RETRY_LOAD_S
from workers.runners.local import LoadFailed
from workers.settle import settle
from workers.watchdog import guarded

SETTLE_RETRY_S = 0.5

FULL_S = 240.0
"""How long results wait for a Postgres that answers and has no room: heartbeats get through, and leases last.
Celery's limit for a drain allows for it, unless a model was loaded in the same drain.
"""

LATE_S = 1.0
"""After how long of waiting for another micro-batch to be settled this one is put down."""

DEAR_S = 1.0
"""What took this long on a machine that may vanish is settled before anything else runs: that costs next to
nothing, and else two such micro-batches could be lost at once.
"""


log = logs.get_logger()


@dataclass
class DrainReport:
    """What a drain did; Flower shows it as the task's result."""

    model: str
    version: str
    queue: str
    jobs: int = 0
    batches: list[int] = field(default_factory=list)
    ended: str = "empty"
    """Why it ended: `empty`, `slice`, `draining`, `yield`, `no_room` or `load_failed`."""

    def as_result(self) -> dict[str, Any]:
        return asdict(self)


def drain(child: Child, version: ModelVersion, lane: Lane) -> DrainReport:
    """Work off ready jobs of one version and lane until none is left or the slice is over.

    Whatever goes wrong here, no lease stays with a child that does not work on it: the child starts
    over under a new identity, and what the old one held is rescued without a charge.
    """
    child.begin()
    child.works(True)
    began, ended = time.perf_counter(), "error"
    try:
        report = _drain(child, version, lane)
        child.behind.join()
        ended = report.ended
        return report
    except BaseException:
        # Results that are being written still count.
        child.behind.rest()
        child.ahead.rest()
        child.abandon()
        raise
    finally:
        child.held.clear()
        child.works(False)
        metrics.DRAINS.labels(version.spec.name, ended).inc()
        metrics.DRAIN_SECONDS.labels(version.spec.name).inc(time.perf_counter() - began)


def drain_all(child: Child) -> None:
    """What the bells of this child's queues would ask for, without a bell: for when Redis is away."""
    for version, lane in upkeep.waiting(child.engine):
        if queue_name(version.spec.device, lane) in child.identity.queues:
            with child.busy:
                drain(child, version, lane)


def _drain(child: Child, version: ModelVersion, lane: Lane) -> DrainReport:
    spec = version.spec
    bell = doorbell_for(version, lane, child.settings.slice_s)
    report = DrainReport(spec.name, spec.version, queue_name(spec.device, lane))
    child.ringer.clear(bell)
    try:
        runner = child.runners.get(version)
    except LoadFailed as error:
        return _fail_to_load(child, version, lane, error, report)
    until = child.clock() + child.settings.slice_s
    while True:
        # At least one micro-batch before it makes room: bulk is slowed down by others, never stopped.
        reason = _why_stop(child, bell, until, may_yield=bool(report.batches))
        if reason:
            # Somebody else, or this child later, should go on.
            if ahead := child.ahead.take():
                _release(child, ahead.jobs, reason)
            child.ringer.ring(bell)
            report.ended = reason
            return report
        try:
            claimed = _claimed_ahead(child, version) or claim(
                child.engine, child.identity, version, lane, _window(child, runner, lane)
            )
        except NoRoom as error:
            # Nothing was claimed, so there is nothing to give up. The sweep rings until there is room.
            log.warning("claim.no_room", model=spec.name, lane=lane.label, reason=str(error))
            report.ended = "no_room"
            return report
        if claimed.jobs:
            child.held.claimed(bell, claimed.jobs)
            child.company.note(claimed.jobs)
            if claimed.more:
                child.ringer.ring(bell)
            if any(job.told for job in claimed.jobs):
                child.ringer.ring(DeliveryBell())
            for ready in _with_media(child, version, claimed.jobs):
                _work_off(child, bell, version, runner, ready, until, report, more=claimed.more)
            # Who lingers hears of what came since: asking Postgres once more is spared.
            if claimed.more or not _may_linger(child, lane):
                continue
        child.behind.join()
        if _rings_again(child, bell):
            continue
        if lane is Lane.BATCH and report.jobs:
            # These may have been the last ones of a batch.
            child.ringer.ring(BatchBell())
        return report


def _window(child: Child, runner: Runner, lane: Lane, ahead_s: float = 0.0) -> Window:
    costs = runner.costs
    return window_for(
        lane,
        costs.cost() if costs.known else None,
        costs.mean_units,
        runner.caps.near(costs),
        children=child.children,
        idle=child.idle_siblings(),
        ahead_s=ahead_s,
        several=child.company.several,
    )


def _claim_ahead(
    child: Child, version: ModelVersion, bell: Doorbell, runner: Runner, running: MicroBatch, until: float
) -> None:
    """Begin to claim the next window while the last micro-batch of this one runs: not if an idle sibling
    could run it, nor if the slice ends first. What is fetched for a model is fetched with nothing in hand.
    """
    costs = runner.costs
    if not child.ahead.on or not costs.known or child.draining() or child.idle_siblings():
        return
    running_s = costs.cost().of(len(running.jobs), running.padded_units)
    if child.clock() + running_s >= until or child.media.finder(version) is not None:
        return
    window, worker = _window(child, runner, bell.lane, ahead_s=running_s), child.identity

    def claim_next() -> Claimed:
        claimed = claim(child.engine, worker, version, bell.lane, window, in_hand=False)
        child.held.claimed(bell, claimed.jobs)
        return claimed

    child.ahead.start(claim_next)


def _claimed_ahead(child: Child, version: ModelVersion) -> Claimed | None:
    """What was claimed ahead, in hand from now on, without jobs that somebody canceled meanwhile."""
    claimed = child.ahead.take()
    if claimed is None or not claimed.jobs:
        return None
    ids = [job.id for job in claimed.jobs]
    asked = workers.mark(child.engine, child.identity.id, ids, version.spec.execution_timeout_s)
    if canceled := [job for job in claimed.jobs if job.id in asked]:
        finish(child, [Outcome(job, Canceled()) for job in canceled])
    left = [job for job in claimed.jobs if job.id not in asked]
    return Claimed(left, claimed.more) if left else None


def _with_media(
    child: Child, version: ModelVersion, claimed: Sequence[ClaimedJob]
) -> Iterator[Sequence[ClaimedJob]]:
    """The window with its media: at once where nothing is fetched, and else in parts, as it comes.

    While it is fetched nothing is in hand: if the child dies meanwhile, no job is a suspect.
    """
    finder = child.media.finder(version)
    if finder is None:
        yield claimed
        return
    gathering = child.media.gather(finder, claimed)
    if gathering.waiting:
        patience_s = child.media.patience_s + version.spec.execution_timeout_s
        workers.mark(child.engine, child.identity.id, [], patience_s)
    elif not gathering.now.unfetched:
        yield gathering.now.ready
        return
    for harvest in chain([gathering.now], gathering.harvests(child.draining, child.clock)):
        finish(child, harvest.unfetched)
        if harvest.ready:
            ids = [job.id for job in harvest.ready]
            workers.mark(child.engine, child.identity.id, ids, version.spec.execution_timeout_s)
            yield harvest.ready


def _work_off(
    child: Child,
    bell: Doorbell,
    version: ModelVersion,
    runner: Runner,
    claimed: Sequence[ClaimedJob],
    until: float,
    report: DrainReport,
    *,
    more: bool,
) -> None:
    """Run a window. While one micro-batch runs, the one before is settled; `more`: so is the last one,
    since another window follows.
    """
    started = child.clock()
    with guarded(runner.spec.execution_timeout_s):
        micro_batches, refused = batch(claimed, runner)
    finish(child, refused)
    # The claim marked the whole window as in hand. That is exact when it is one micro-batch with the
    # usual deadline, begun at once: then a round trip is saved.
    marked = (
        len(micro_batches) == 1
        and not refused
        and micro_batches[0].deadline_s == runner.spec.execution_timeout_s
        and child.clock() - started < 1.0
    )
    for index, planned in enumerate(micro_batches):
        if index and (why := _why_stop(child, bell, until)):
            _release(child, [prepared.job for later in micro_batches[index:] for prepared in later.jobs], why)
            return
        began = time.perf_counter()
        micro_batch = child.held.start(planned, _expected_s(runner, planned))
        if micro_batch is not None and not marked:
            micro_batch = _marked(child, micro_batch)
        if micro_batch is None:
            continue
        if more and planned is micro_batches[-1]:
            _claim_ahead(child, version, bell, runner, micro_batch, until)
        idle = child.idle_siblings() if len(micro_batches) == 1 and not more else 0
        with (
            _traced(micro_batch, runner, bell.lane),
            child.borrowed.cores(idle, _expected_s(runner, micro_batch)) as borrowed,
        ):
            outcomes = infer(micro_batch, runner, _running(child, micro_batch))
        child.held.done()
        dear = child.settings.purchase == "spot" and time.perf_counter() - began > DEAR_S
        if not dear and (more or planned is not micro_batches[-1]):
            finish_behind(child, outcomes)
            learn(micro_batch, runner, outcomes, time.perf_counter() - began)
        else:
            if not borrowed:
                learn(micro_batch, runner, outcomes, time.perf_counter() - began)
            finish(child, outcomes)
        report.jobs += len(outcomes)
        report.batches.append(len(outcomes))


def _traced(micro_batch: MicroBatch, runner: Runner, lane: Lane) -> AbstractContextManager[None]:
    """A batch's jobs have no traces of their own, but their batch's."""
    ids = (prepared.job.id for prepared in micro_batch.jobs)
    about = map(batch_of, ids) if lane is Lane.BATCH else ids
    return tracing.micro_batch(runner.spec.name, runner.spec.version, about, micro_batch.padded_units)


def _expected_s(runner: Runner, planned: MicroBatch) -> float | None:
    if not runner.costs.known:
        return None
    return runner.costs.cost().of(len(planned.jobs), planned.padded_units)


def _release(child: Child, jobs: Sequence[ClaimedJob], why: str) -> None:
    """Give back what was not begun, without a charge."""
    released = Released(Reason.PREEMPTED if why == "draining" else Reason.WAITING_FOR_WORKER)
    if why == "draining":
        metrics.DRAIN_RELEASED_JOBS.labels("unstarted").inc(len(jobs))
    finish(child, [Outcome(job, released) for job in jobs])


def finish_behind(child: Child, outcomes: Sequence[Outcome]) -> None:
    """As `finish`, while the next micro-batch is marked and runs. Storing large outputs is not done so:
    they are settled when nothing is in hand.
    """
    plain, large = child.outputs.sort(outcomes)
    if large:
        finish(child, outcomes)
    else:
        if not child.behind.wait(LATE_S):
            _put_down(child, plain)
        child.behind.do(lambda: _finish(child, plain))


def finish(child: Child, outcomes: Sequence[Outcome]) -> None:
    """settle, then notify: who is woken finds the result. Large outputs are stored first."""
    plain, large = child.outputs.sort(outcomes)
    if plain or not large:
        _finish(child, plain)
    if not large:
        return
    # Nothing is in hand, as settle leaves it: a slow storage is no crash of the model's.
    patience_s = child.settings.lease_ttl_s * 0.8
    workers.mark(child.engine, child.identity.id, [], 2 * patience_s)
    stored: Sequence[Outcome] = child.outputs.store(large, patience_s)
    settled: Sequence[SettledJob] = ()
    try:
        settled = _finish(child, stored)
    finally:
        child.outputs.clean(stored, settled)


def _finish(child: Child, outcomes: Sequence[Outcome]) -> Sequence[SettledJob]:
    """Settle and notify.

    Results are dear, and a restart of Postgres takes seconds: keep trying for most of a lease's life, and
    longer while Postgres is there and only has no room. Trying again is safe, since a settle that was
    committed without our hearing of it removes no lease twice.
    """
    child.held.forget(outcome.job for outcome in outcomes)
    began, waits = child.clock(), False
    while True:
        try:
            settled = settle(child.engine, child.identity, outcomes)
            break
        except Unavailable as error:
            full = isinstance(error, NoRoom) and not child.lease.is_over()
            if child.clock() - began >= (FULL_S if full else child.settings.lease_ttl_s * 0.8):
                raise
            if not waits:
                log.warning("settle.waits", jobs=len(outcomes), reason=str(error))
            waits = True
            if full:
                _put_down(child, outcomes)
            time.sleep(SETTLE_RETRY_S)
    if waits:
        log.info("settle.goes_on", jobs=len(outcomes), seconds=round(child.clock() - began, 1))
    child.notifier.settled(settled)
    if any(job.told for job in settled):
        child.ringer.ring(DeliveryBell())
    return settled


def _put_down(child: Child, outcomes: Sequence[Outcome]) -> None:
    """These can't be settled yet. Their deadline passes meanwhile, and it was kept."""
    with suppress(Unavailable):
        workers.put_down(child.engine, child.identity.id, [outcome.job.id for outcome in outcomes])


def _marked(child: Child, planned: MicroBatch) -> MicroBatch | None:
    """The micro-batch, now in hand, without jobs that somebody canceled while earlier ones ran."""
    asked = _mark(child, planned.jobs, planned.deadline_s)
    if not any(prepared.job.id in asked for prepared in planned.jobs):
        return planned
    finish(
        child, [Outcome(prepared.job, Canceled()) for prepared in planned.jobs if prepared.job.id in asked]
    )
    left = tuple(prepared for prepared in planned.jobs if prepared.job.id not in asked)
    return MicroBatch(left) if left else None


def _rings_again(child: Child, bell: Doorbell) -> bool:
    """Whether the next interactive job came while this child lingered: most of Celery's cost is spared."""
    if not _may_linger(child, bell.lane):
        return False
    child.works(False)
    try:
        return child.ringer.linger(bell.version_id, bell.queue, child.identity.id, child.settings.linger_s)
    finally:
        child.works(True)


def _may_linger(child: Child, lane: Lane) -> bool:
    return lane is Lane.INTERACTIVE and child.settings.linger_s > 0 and not child.draining()


def _why_stop(child: Child, bell: Doorbell, until: float, *, may_yield: bool = True) -> str | None:
    if child.draining():
        return "draining"
    if child.clock() >= until:
        return "slice"
    # A batch-lane drain makes room at a micro-batch border when somebody is waiting for an answer.
    if (
        may_yield
        and bell.lane is Lane.BATCH
        and queue_name(bell.device, Lane.INTERACTIVE) in child.identity.queues
        and child.ringer.rung(queue_name(bell.device, Lane.INTERACTIVE))
    ):
        return "yield"
    return None


def _running(child: Child, micro_batch: MicroBatch) -> Running:
    """What surrounds each run of the model: the watchdog, and the names of those who run.

    A half of a micro-batch that raised runs on its own time, and if it kills the process, alone is suspect.
    """

    @contextmanager
    def running(jobs: tuple[PreparedJob, ...]) -> Iterator[BatchContext]:
        if jobs != micro_batch.jobs:
            _mark(child, jobs, micro_batch.deadline_s)
        with guarded(micro_batch.deadline_s):
            yield BatchContext(child.engine, child.notifier, child.identity.id, jobs)

    return running


def _mark(child: Child, jobs: tuple[PreparedJob, ...], deadline_s: float) -> frozenset[UUID]:
    return workers.mark(child.engine, child.identity.id, [prepared.job.id for prepared in jobs], deadline_s)


def _fail_to_load(
    child: Child, version: ModelVersion, lane: Lane, error: LoadFailed, report: DrainReport
) -> DrainReport:
    """Each job learns why, and comes back after its own backoff: another worker, or a later load, may do.
    For what is wrong with this machine none is charged.
    """
    window = window_for(lane, None, 1.0, Caps(version.spec.max_batch_items))
    failed: Failed | Released = Failed("model_load_failed", str(error), retryable=True)
    if error.of_the_machine:
        failed = Released(Reason.RETRY_BACKOFF, RETRY_LOAD_S)
    log.warning("load.failed", model=version.spec.name, version=version.spec.version, reason=str(error))
    while claimed := claim(child.engine, child.identity, version, lane, window).jobs:
        finish(child, [Outcome(job, failed) for job in claimed])
        report.jobs += len(claimed)
    report.ended = "load_failed"
    return report
