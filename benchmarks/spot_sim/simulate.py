"""One day by discrete events: machines come, work, are scaled by `decide` and `steps`, and vanish."""

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from typing import Any

from app.domain.lanes import Device, Lane, queue_name
from app.domain.pools import Pool
from app.domain.scaling import Backlog, Due, Fleet, Past, Seen, decide, steps
from benchmarks.spot_sim.load import Order, Piece, pieces
from benchmarks.spot_sim.market import Market, Weather

TICK_S = 15.0
RESCUE_S = 30.0
"""After a kill without notice, until the leases of the window are given back."""
QUEUES = {lane: queue_name(Device.GPU, lane) for lane in Lane}


@dataclass(slots=True)
class Bill:
    """What a day cost, in hours of an on-demand machine, and what was got for it."""

    cost: dict[str, float] = field(default_factory=dict)
    """By pool."""
    machine_s: dict[str, float] = field(default_factory=dict)
    starting_s: float = 0.0
    """Of all machine-seconds, those before the first claim."""
    worked_s: float = 0.0
    """Seconds of micro-batches that came to an end."""
    wasted_s: float = 0.0
    """Seconds of micro-batches that were cut off."""
    wasted: int = 0
    """Micro-batches that were cut off."""
    interruptions: int = 0
    kills: int = 0
    """Of machines, without notice."""
    most: int = 0
    """Machines at once."""
    jobs: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    """That ended."""
    in_time: dict[Lane, int] = field(default_factory=lambda: dict.fromkeys(Lane, 0))
    waits: dict[Lane, list[float]] = field(default_factory=lambda: {lane: [] for lane in Lane})
    """Of each piece, from the order to the first micro-batch, in seconds."""

    @property
    def total(self) -> float:
        return sum(self.cost.values())

    def met(self, lane: Lane) -> float:
        """The share of its jobs that ended before their deadline."""
        return self.in_time[lane] / max(1, self.jobs[lane])


@dataclass(slots=True)
class Slice:
    """Micro-batches `[a, b)` of a piece that wait or run."""

    order: Order
    piece: Piece
    a: int
    b: int

    @property
    def before_s(self) -> float:
        return self.piece.ends[self.a - 1] if self.a else 0.0


@dataclass(slots=True)
class Machine:
    """One machine with one child."""

    id: str
    pool: Pool
    market: int | None
    asked: float
    working: bool = False
    draining: bool = False
    doomed: bool = False
    """It has a notice."""
    gone: bool = False
    slice: Slice | None = None
    began: float = 0.0
    run: int = 0
    """Counts what it began, so that the end of something that was cut short is not believed."""


class Simulation:
    """A day. `done` is told of every micro-batch that ended: order, place in the order's piece, from, to."""

    def __init__(
        self,
        pools: Sequence[Pool],
        orders: Sequence[Order],
        weather: Weather,
        seed: int,
        done: Callable[[Slice, int, int], None] | None = None,
    ) -> None:
        self.bill = Bill()
        self._pools, self._orders, self._done = pools, orders, done
        self._market = Market(weather, seed)
        self._kinds = {lane: pieces(lane, seed) for lane in Lane}
        self._per_job = {
            lane: sum(piece.work_s for piece in kinds) / sum(piece.jobs[-1] for piece in kinds)
            for lane, kinds in self._kinds.items()
        }
        self._waiting: dict[Lane, deque[Slice]] = {lane: deque() for lane in Lane}
        self._lanes = {pool.name: [lane for lane in Lane if QUEUES[lane] in pool.queues] for pool in pools}
        self._idle: dict[str, dict[str, Machine]] = {pool.name: {} for pool in pools}
        self._machines: dict[str, dict[str, Machine]] = {pool.name: {} for pool in pools}
        self._left: dict[tuple[Lane, int], int] = {}
        self._live: dict[tuple[Lane, int], Order] = {}
        self._past: dict[str, Past] = {}
        self._agenda: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = count()
        self.now = 0.0

    def run(self) -> Bill:
        """Until every order is done."""
        end = self._orders[-1].at if self._orders else 0.0
        for at, market in self._market.events(end + 12 * 3600):
            self._at(at, self._event, market)
        self._at(0.0, self._tick)
        coming = iter(self._orders)
        order = next(coming, None)
        while order is not None or self._live:
            if order is not None and order.at <= self._agenda[0][0]:
                self.now = order.at
                self._arrive(order)
                order = next(coming, None)
                continue
            self.now, _, what, about = heappop(self._agenda)
            what(*about)
        for machines in self._machines.values():
            for machine in list(machines.values()):
                self._stop(machine)
        return self.bill

    def _at(self, when: float, what: Callable[..., None], *about: Any) -> None:
        heappush(self._agenda, (when, next(self._numbers), what, about))

    # Work

    def _arrive(self, order: Order) -> None:
        key = (order.lane, order.number)
        kinds = self._kinds[order.lane]
        self._live[key] = order
        self._left[key] = sum(kinds[index].jobs[-1] for index in order.pieces)
        self._give(Slice(order, kinds[index], 0, len(kinds[index].ends)) for index in order.pieces)

    def _give(self, slices: Iterable[Slice], first: bool = False) -> None:
        """Work that waits, from now on; `first` if it has waited before."""
        for one in slices:
            lane = one.order.lane
            waiting = self._waiting[lane]
            waiting.appendleft(one) if first else waiting.append(one)
            for pool in self._pools:
                if lane in self._lanes[pool.name] and self._idle[pool.name]:
                    _, machine = self._idle[pool.name].popitem()
                    self._next(machine)
                    break

    def _next(self, machine: Machine) -> None:
        """The machine has nothing to do: it begins what waits."""
        self._idle[machine.pool.name].pop(machine.id, None)
        if machine.draining or machine.doomed or machine.gone:
            return
        for lane in self._lanes[machine.pool.name]:
            if self._waiting[lane]:
                one = self._waiting[lane].popleft()
                machine.slice, machine.began = one, self.now
                if not one.a:
                    self.bill.waits[lane].append(self.now - one.order.at)
                self._ends(machine, one)
                return
        self._idle[machine.pool.name][machine.id] = machine

    def _ends(self, machine: Machine, one: Slice) -> None:
        machine.run += 1
        when = machine.began + one.piece.ends[one.b - 1] - one.before_s
        self._at(when, self._end, machine, machine.run)

    def _end(self, machine: Machine, run: int) -> None:
        if machine.run != run or machine.slice is None:
            return
        self._count(machine, machine.slice.b)
        machine.slice = None
        self._next(machine)

    def _count(self, machine: Machine, b: int) -> None:
        """The micro-batches of its slice before `b` have ended."""
        one = machine.slice
        if one is None or b <= one.a:
            return
        order, piece = one.order, one.piece
        begin = machine.began - one.before_s
        late = max(one.a, min(b, bisect_right(piece.ends, order.due - begin)))
        jobs = piece.jobs[b] - piece.jobs[one.a]
        self.bill.worked_s += piece.ends[b - 1] - one.before_s
        self.bill.jobs[order.lane] += jobs
        self.bill.in_time[order.lane] += piece.jobs[late] - piece.jobs[one.a]
        if self._done:
            self._done(one, one.a, b)
        key = (order.lane, order.number)
        self._left[key] -= jobs
        if not self._left[key]:
            del self._left[key], self._live[key]

    def _cut(self, machine: Machine) -> None:
        """It ends with the micro-batch that it is at, and gives the rest back."""
        one = machine.slice
        if one is None:
            return
        at = self._micro_batch(machine, one) + 1
        if at < one.b:
            rest = Slice(one.order, one.piece, at, one.b)
            one.b = at
            self._ends(machine, one)
            self._give([rest], first=True)

    def _micro_batch(self, machine: Machine, one: Slice) -> int:
        return min(
            one.b - 1, max(one.a, bisect_right(one.piece.ends, self.now - machine.began + one.before_s))
        )

    # The market

    def _ask(self, pool: Pool) -> None:
        market = self._market.buy(self.now) if pool.spot else None
        if pool.spot and market is None:
            return
        machine = Machine(f"m{next(self._numbers):09}", pool, market, self.now)
        self._machines[pool.name][machine.id] = machine
        self.bill.most = max(self.bill.most, sum(map(len, self._machines.values())))
        self._at(self.now + self._market.start_s(), self._started, machine)
        if pool.spot:
            self._at(self.now + self._market.lives_s(), self._interrupt, machine)

    def _started(self, machine: Machine) -> None:
        if not machine.gone and not machine.doomed:
            self.bill.starting_s += self.now - machine.asked
            machine.working = True
            self._next(machine)

    def _event(self, market: int) -> None:
        share = self._market.strike(market, self.now)
        for pool in self._pools:
            for machine in list(self._machines[pool.name].values()):
                if machine.market == market and self._market.chosen(share):
                    self._interrupt(machine)

    def _interrupt(self, machine: Machine) -> None:
        if machine.gone or machine.doomed or self.now == float("inf"):
            return
        self.bill.interruptions += 1
        notice = self._market.notice_s()
        if not notice:
            self.bill.kills += 1
            self._kill(machine)
            return
        machine.doomed = True
        self._idle[machine.pool.name].pop(machine.id, None)
        self._cut(machine)
        self._at(self.now + notice, self._kill, machine)

    def _kill(self, machine: Machine) -> None:
        one = machine.slice
        if machine.gone:
            return
        if one is not None:
            at = self._micro_batch(machine, one)
            self._count(machine, at)
            self.bill.wasted += 1
            self.bill.wasted_s += (
                self.now - machine.began + one.before_s - (one.piece.ends[at - 1] if at else 0.0)
            )
            border = min(one.b, next(end for end in one.piece.window_ends if end > at))
            if border < one.b:
                self._give([Slice(one.order, one.piece, border, one.b)], first=True)
            claimed = [Slice(one.order, one.piece, at, border)]
            self._at(self.now + RESCUE_S, self._give, claimed, True)
            machine.slice = None
        self._stop(machine)

    def _stop(self, machine: Machine) -> None:
        if machine.gone:
            return
        machine.gone = True
        machine.run += 1
        name, paid = machine.pool.name, self.now - machine.asked
        del self._machines[name][machine.id]
        self._idle[name].pop(machine.id, None)
        if machine.market is not None:
            self._market.held[machine.market] -= 1
        self.bill.machine_s[name] = self.bill.machine_s.get(name, 0.0) + paid
        self.bill.cost[name] = self.bill.cost.get(name, 0.0) + paid / 3600 * machine.pool.price_per_hour
        if not machine.working:
            self.bill.starting_s += paid

    # The scaler

    def _tick(self) -> None:
        self._at(self.now + TICK_S, self._tick)
        fleets = {}
        for pool in self._pools:
            counted = [
                one for one in self._machines[pool.name].values() if not one.draining and not one.doomed
            ]
            working = sum(one.working for one in counted)
            fleets[pool.name] = Fleet(running=working, starting=len(counted) - working)
        plan = decide(self._pools, self._backlogs(), fleets, self._past, self.now)
        self._past = dict(plan.past)
        for pool in self._pools:
            self._follow(pool, plan.decisions[pool.name].desired)

    def _backlogs(self) -> dict[str, Backlog]:
        """What the scaler's query would say: jobs × the mean job, by deadline."""
        found: dict[str, Backlog] = {}
        for lane in Lane:
            orders = [order for order in self._live.values() if order.lane is lane]
            each = self._per_job[lane]
            jobs = [self._left[lane, order.number] for order in orders]
            due = [
                Due(max(0.0, order.due - self.now), left * each)
                for order, left in zip(orders, jobs, strict=True)
            ]
            if jobs:
                found[QUEUES[lane]] = Backlog(jobs=sum(jobs), work_s=sum(jobs) * each, due=tuple(due))
        return found

    def _follow(self, pool: Pool, desired: int) -> None:
        machines = self._machines[pool.name]
        seen = [
            Seen(one.id, one.working, one.draining, 1 if one.slice else 0)
            for one in machines.values()
            if not one.doomed
        ]
        todo = steps(desired, seen)
        for _ in range(todo.grow):
            self._ask(pool)
        for name in todo.drain:
            machines[name].draining = True
            self._idle[pool.name].pop(name, None)
            self._cut(machines[name])
        for name in todo.retire:
            self._stop(machines[name])
