"""How many machines each pool should have: a pure function of the backlog, the pools and what runs.

    backlog (per queue) ──► slots wanted (to reach target_s) ──► spot pools, the cheapest first
                       └──► slots needed (to meet deadlines) ──► on demand, for what spot can't do in time

Time is passed in, in seconds on any one clock. Nothing here starts or stops anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil

from app.domain.pools import Pool

MARGIN = 0.8
"""The share of the time to a deadline that the work may be predicted to take: some of it will be lost to
interruptions, and some is badly predicted."""
SOONEST_S = 30.0
"""A deadline that is nearer, or has passed, counts as this far: else no number of machines were enough."""


@dataclass(frozen=True, slots=True)
class Due:
    """Work that must be done within `within_s` seconds from now."""

    within_s: float
    work_s: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """What one queue holds. A work-second is a second of one slot."""

    jobs: int = 0
    """Waiting and leased."""
    leased: int = 0
    unmeasured: int = 0
    """Jobs of versions whose speed nobody knows yet. They are in `jobs`, but no work-seconds are."""
    work_s: float = 0.0
    due: tuple[Due, ...] = ()
    """The same work by deadline, in any order."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What a pool has at this moment, in machines. One that gives its work back counts as none."""

    running: int = 0
    """They have a worker that claims."""
    starting: int = 0


@dataclass(frozen=True, slots=True)
class Past:
    """What one pool's last decision leaves to the next."""

    asked: tuple[tuple[float, int], ...] = ()
    """(when, how many machines were enough), over the last `cooldown_s`."""
    short_since: float | None = None
    """Since when there are fewer machines than were decided on."""
    running: int = 0
    """How many ran then."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How many machines a pool should have, and why in one word."""

    desired: int
    reason: str
    """`idle`, `backlog`, `deadline` (on demand, because spot would be late), `cooldown`, `min` or `max`."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Decisions by pool, and what to pass to the next call."""

    decisions: Mapping[str, Decision]
    past: Mapping[str, Past]


@dataclass(slots=True)
class _Need:
    """What is still to be given to a pool, of one queue, in slots."""

    wanted: float
    needed: float
    on_spot: bool
    """Whether some spot pool serves the queue."""


@dataclass(slots=True)
class _Share:
    slots: float = 0.0
    reason: str = "idle"
    queues: dict[str, float] = field(default_factory=dict)


def decide(
    pools: Sequence[Pool],
    backlogs: Mapping[str, Backlog],
    fleets: Mapping[str, Fleet],
    past: Mapping[str, Past],
    now: float,
) -> Plan:
    """Each pool's machines, always within its `min` and `max`.

    A queue's work goes to its spot pools, the cheapest slot first. A pool is only relied on for machines that
    run, or were asked for within its `start_s`; what it does not bring is asked of the next one. On-demand
    pools of a queue that spot serves get what spot can't finish before its deadlines, and no more. Fewer
    machines are decided on only when fewer were enough for all of `cooldown_s`.
    """
    needs = {queue: _need(queue, backlog, pools) for queue, backlog in backlogs.items() if backlog.jobs}
    decisions: dict[str, Decision] = {}
    after: dict[str, Past] = {}
    for pool in sorted(pools, key=lambda pool: (not pool.spot, pool.price_per_slot, pool.name)):
        fleet, before = fleets.get(pool.name, Fleet()), past.get(pool.name)
        share = _share(pool, needs)
        decision, asked = _bounded(pool, share, fleet, before, now)
        after[pool.name] = _remembered(asked, decision, fleet, before, now)
        decisions[pool.name] = decision
        _take(share, _reliable(pool, decision, fleet, after[pool.name], now), needs)
    return Plan(decisions, after)


def slots_needed(due: Sequence[Due], lead_s: float = 0.0) -> float:
    """The fewest slots that finish all of it in time, each deadline's work before the next one's, if they
    begin in `lead_s`.
    """
    most, before = 0.0, 0.0
    for one in sorted(due, key=lambda due: due.within_s):
        before += one.work_s
        most = max(most, before / max(MARGIN * one.within_s - lead_s, SOONEST_S))
    return most


def _need(queue: str, backlog: Backlog, pools: Sequence[Pool]) -> _Need:
    serving = [pool for pool in pools if queue in pool.queues]
    # The most patient pool would be late for the others.
    target_s = min((pool.target_s for pool in serving), default=1.0)
    needed = slots_needed(backlog.due, min((pool.start_s for pool in serving), default=0.0))
    wanted = max(backlog.work_s / target_s, needed)
    # More slots than jobs have nothing to do. And somebody has to find out how fast an unmeasured one is.
    wanted = max(min(wanted, backlog.jobs), 1e-9)
    return _Need(wanted, min(needed, backlog.jobs), any(pool.spot for pool in serving))


def _share(pool: Pool, needs: Mapping[str, _Need]) -> _Share:
    """The slots that its queues still ask of this pool."""
    share = _Share()
    for queue in pool.queues:
        need = needs.get(queue)
        if need is None:
            continue
        spills = need.on_spot and not pool.spot
        slots = need.needed if spills else need.wanted
        if slots > 0:
            share.queues[queue] = slots
            share.slots += slots
            share.reason = "deadline" if spills else "backlog"
    return share


def _bounded(
    pool: Pool, share: _Share, fleet: Fleet, before: Past | None, now: float
) -> tuple[Decision, tuple[tuple[float, int], ...]]:
    enough = ceil(share.slots / pool.slots)
    wanted = min(max(enough, pool.min), pool.max)
    reason = share.reason if wanted == enough else "min" if wanted > enough else "max"
    # A scaler that has just started gives nothing back before it has watched for a while.
    history = before.asked if before else ((now, fleet.running + fleet.starting),)
    asked = (*(one for one in history if one[0] > now - pool.cooldown_s), (now, enough))
    held = min(max(count for _, count in asked), pool.max)
    if held > wanted:
        return Decision(held, "cooldown"), _falling(asked)
    return Decision(wanted, reason), _falling(asked)


def _falling(asked: Sequence[tuple[float, int]]) -> tuple[tuple[float, int], ...]:
    """Only what may still be the largest of a window: later ones that are as large hide earlier ones."""
    return tuple(reversed(list(_records(reversed(asked)))))


def _records(latest_first: Iterator[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    most = -1
    for when, count in latest_first:
        if count > most:
            most = count
            yield when, count


def _remembered(
    asked: tuple[tuple[float, int], ...], decision: Decision, fleet: Fleet, before: Past | None, now: float
) -> Past:
    if fleet.running >= decision.desired:
        return Past(asked)
    if before is None or before.short_since is None:
        return Past(asked, now, fleet.running)
    # Machines that come one by one are no reason to go on waiting for all: half of them must have come.
    if 2 * (fleet.running - before.running) >= decision.desired - before.running:
        return Past(asked, now, fleet.running)
    return Past(asked, before.short_since, before.running)


def _reliable(pool: Pool, decision: Decision, fleet: Fleet, past: Past, now: float) -> int:
    """Slots of this pool that will work soon."""
    late = past.short_since is not None and now - past.short_since > pool.start_s
    machines = min(decision.desired, fleet.running) if late else decision.desired
    return machines * pool.slots


def _take(share: _Share, slots: float, needs: Mapping[str, _Need]) -> None:
    """What this pool will do is not asked of the next one."""
    if not share.slots:
        return
    done = min(1.0, slots / share.slots)
    for queue, asked in share.queues.items():
        need = needs[queue]
        need.wanted = max(0.0, need.wanted - asked * done)
        need.needed = max(0.0, need.needed - asked * done)


@dataclass(frozen=True, slots=True)
class Seen:
    """One machine of a pool, as executor and database together see it."""

    id: str
    working: bool
    """It has a worker that is known to the database."""
    draining: bool = False
    """All of its children were told to claim nothing any more."""
    leases: int = 0


@dataclass(frozen=True, slots=True)
class Steps:
    """What to do with a pool's machines now."""

    grow: int = 0
    """How many more to ask for."""
    drain: tuple[str, ...] = ()
    """Are to claim nothing any more."""
    retire: tuple[str, ...] = ()
    """Are to be stopped. None of them holds a lease."""
    kept: int = 0
    """Machines that drain and still hold leases."""


def steps(desired: int, machines: Sequence[Seen]) -> Steps:
    """How to come from `machines` to `desired` without a lease that dies.

    A machine that works is told to drain first, and is stopped in a later call, once it holds no lease. Those
    that hold the fewest go first, and before them those that have not begun to work.
    """
    draining = [machine for machine in machines if machine.draining]
    empty = tuple(machine.id for machine in draining if not machine.leases)
    kept = len(draining) - len(empty)
    staying = sorted(
        (machine for machine in machines if not machine.draining),
        key=lambda machine: (machine.working, machine.leases, machine.id),
    )
    surplus = staying[: max(0, len(staying) - desired)]
    return Steps(
        grow=max(0, desired - len(staying)),
        drain=tuple(machine.id for machine in surplus if machine.working),
        retire=empty + tuple(machine.id for machine in surplus if not machine.working),
        kept=kept,
    )
