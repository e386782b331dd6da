"""Spot on paper: a day of batch load on up to 1,000 machines that may vanish, simulated event by event.

`python -m benchmarks.spot_sim` takes about two minutes of two cores and writes docs/plots/spot.svg and a section of
docs/scale.md. How many machines there are is decided by the real scaling function, and what a machine runs by
the real window and plan; the rest (load, prices, interruptions) is stated in `Day` and `Market`. Seeded.
"""

import heapq
import math
import random
import sys
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from uuid import UUID

from app.domain.cost import Cost
from app.domain.lanes import Lane
from app.domain.planning import Caps, plan
from app.domain.pools import Pool
from app.domain.retry import RetryPolicy
from app.domain.scaling import Backlog, Due, Fleet, Past, Seen, decide, steps
from app.domain.stages import ClaimedJob, PreparedJob
from app.domain.window import window_for

HOUR, DAY = 3600.0, 86_400.0
QUEUE = "cpu.batch"
COST = Cost(fixed=0.5, per_unit=0.02, per_item=0.1)
"""A model of the slow kind: a usual item of 33 units takes three quarters of a second."""
CAPS = Caps(items=32, seconds=10.0)
"""Micro-batches on spot machines take 10 s, 99 times in 100."""
MEAN_UNITS = 33.0
CHUNK_S = 60.0
"""Micro-batches are drawn for about a minute at a time, which is exact: each has its own end."""
TICK_S = 30.0
OWN_MOST = 250
"""Machines on demand beside 1,000 on spot."""


@dataclass(frozen=True)
class Day:
    """The load: batches over a day, more by day than by night, and a few that are very large."""

    work_s: float = 26e6
    """Of all batches: 300 machines' day."""
    batches: int = 700
    bursts: int = 6
    burst_s: float = 700_000.0
    windows: tuple[tuple[float, float], ...] = ((0.2, 1 * HOUR), (0.3, 4 * HOUR), (0.5, DAY))
    """(share of batches, completion window)."""


@dataclass(frozen=True)
class Market:
    """Machines that can be bought. Half of the interruptions come alone, half take a share of one market."""

    rate: float = 0.05
    """Share of running spot machines that are interrupted in an hour."""
    price: float = 0.35
    """Of a spot machine, on demand being 1: 65 % off."""
    markets: int = 5
    room: int = 300
    """Most machines of one market."""
    unnoticed: float = 0.1
    """Share of interruptions without a notice in time. With one (120 s), what runs is ended."""
    start_s: tuple[float, float] = (45.0, 150.0)


@dataclass(frozen=True)
class Scenario:
    name: str
    spot: bool = True
    rate: float = 0.05
    target_s: float = 900.0
    seed: int = 1
    price: float = 0.35


@dataclass
class Outcome:
    """What a day came to. Costs are in machine-hours on demand."""

    scenario: Scenario
    cost: float = 0.0
    own_cost: float = 0.0
    jobs: int = 0
    late: int = 0
    batches: int = 0
    batches_late: int = 0
    work_s: float = 0.0
    wasted_s: float = 0.0
    billed_s: float = 0.0
    interruptions: int = 0
    most: int = 0


@dataclass
class Batch:
    jobs: int
    deadline: float
    leased: int = 0
    late: int = 0


@dataclass(eq=False)
class Machine:
    id: str
    pool: str
    market: int
    born: float
    ready: bool = False
    draining: bool = False
    batch: Batch | None = None
    begun: float = 0.0
    ends: list[tuple[float, int]] = field(default_factory=list)
    """(seconds from `begun`, jobs) of each micro-batch of the current minute."""
    turn: int = 0
    """Events of an earlier turn mean nothing any more."""


@cache
def shapes(seed: int = 7) -> tuple[tuple[tuple[float, int], ...], ...]:
    """Windows as the real code makes them of random lengths: (seconds, jobs) of each of its micro-batches."""
    draw = random.Random(seed)
    window = window_for(Lane.BATCH, COST, MEAN_UNITS, CAPS)
    retry, nobody = RetryPolicy(), UUID(int=0)
    made = []
    for _ in range(400):
        jobs = []
        for number in range(window.most):
            units = max(1, min(500, round(draw.lognormvariate(math.log(MEAN_UNITS) - 0.18, 0.6))))
            claimed = ClaimedJob(UUID(int=number + 1), 1, None, 0, 0, None, 600.0, retry, tenant_id=0)
            jobs.append(PreparedJob(claimed, nobody, units))
        micro_batches = plan(jobs, COST, CAPS)
        # Predictions are wrong by a few per cent.
        made.append(
            tuple(
                (COST.of(len(one.jobs), one.padded_units) * draw.lognormvariate(0, 0.08), len(one.jobs))
                for one in micro_batches
            )
        )
    return tuple(made)


@cache
def job_s() -> float:
    """Mean seconds of a job, as children would have measured it."""
    all_of = [one for shape in shapes() for one in shape]
    return sum(seconds for seconds, _ in all_of) / sum(jobs for _, jobs in all_of)


class Simulation:
    """One day of one scenario."""

    def __init__(self, scenario: Scenario, day: Day | None = None, market: Market | None = None) -> None:
        self.scenario, self.day = scenario, day or Day()
        self.market = replace(market or Market(), rate=scenario.rate, price=scenario.price)
        self.draw = random.Random(scenario.seed)
        self.out = Outcome(scenario)
        shared = {"queues": (QUEUE,), "max": 1000, "cooldown_s": 300.0, "start_s": 180.0}
        shared |= {"target_s": scenario.target_s}
        most = OWN_MOST if scenario.spot else 1000
        own = Pool.model_validate({"name": "own", "price_per_hour": 1.0, **shared, "max": most})
        spot = Pool.model_validate(
            {"name": "spot", "purchase": "spot", "price_per_hour": self.market.price, **shared}
        )
        self.pools = [spot, own] if scenario.spot else [own]
        self.fleet: dict[str, dict[str, Machine]] = {pool.name: {} for pool in self.pools}
        self.batches: deque[Batch] = deque()
        self.open: list[Batch] = []
        self.closed_until = [0.0] * self.market.markets
        self.past: dict[str, Past] = {}
        self.idle: list[Machine] = []
        self.events: list[tuple[float, int, str, object, int]] = []
        self.count = self.born = 0
        self.now = 0.0

    def run(self) -> Outcome:
        """The day, and what remains of it after midnight."""
        self._draw_load()
        self._at(0.0, "tick")
        if self.scenario.spot:
            self._next_crunch()
        while self.events:
            self.now, _, kind, what, turn = heapq.heappop(self.events)
            if isinstance(what, Machine) and what.turn != turn:
                continue
            getattr(self, f"_{kind}")(what)
        return self.out

    # The load.

    def _draw_load(self) -> None:
        day, draw = self.day, self.draw
        sizes = [draw.lognormvariate(0, 1.2) for _ in range(day.batches)]
        scale = (day.work_s - day.bursts * day.burst_s) / sum(sizes)
        drawn = [(size * scale, self._hour()) for size in sizes]
        drawn += [(day.burst_s, self._hour()) for _ in range(day.bursts)]
        for work_s, at in drawn:
            (window,) = draw.choices(
                [window for _, window in day.windows], [share for share, _ in day.windows]
            )
            self._at(at, "submit", Batch(max(1, round(work_s / job_s())), at + window))

    def _hour(self) -> float:
        """A time of the day: at 15 o'clock nine times as likely as at 3."""
        while True:
            at = self.draw.random() * DAY
            if self.draw.random() < 0.5 - 0.4 * math.cos(2 * math.pi * (at / DAY - 0.125)):
                return at

    def _submit(self, batch: Batch) -> None:
        self.out.jobs += batch.jobs
        self.out.batches += 1
        self.batches.append(batch)
        self.open.append(batch)
        self._wake()

    # Machines at work.

    def _wake(self) -> None:
        idle, self.idle = self.idle, []
        for machine in idle:
            if machine.ready and not machine.draining and machine.batch is None:
                self._work(machine)

    def _work(self, machine: Machine) -> None:
        """Micro-batches for about a minute, from the batch whose turn it is: each has its share."""
        while self.batches and not self.batches[0].jobs:
            self.batches.popleft()
        if not self.batches:
            self.idle.append(machine)
            return
        batch = self.batches[0]
        self.batches.rotate(-1)
        machine.batch, machine.begun, machine.ends = batch, self.now, []
        passed, left = 0.0, batch.jobs
        while left and passed < CHUNK_S:
            for seconds, jobs in self.draw.choice(shapes()):
                taken = min(jobs, left)
                if not taken:
                    break
                passed += seconds * taken / jobs
                left -= taken
                machine.ends.append((passed, taken))
        batch.leased += batch.jobs - left
        batch.jobs = left
        machine.turn += 1
        self._at(self.now + passed, "ended", machine)

    def _ended(self, machine: Machine) -> None:
        self._settle(machine, self.now)
        if machine.draining:
            self._remove(machine)
        else:
            self._work(machine)

    def _settle(self, machine: Machine, until: float) -> None:
        """Micro-batches that ended by `until` count; the jobs of the others wait again."""
        batch = machine.batch
        if batch is None:
            return
        before = 0.0
        for end, jobs in machine.ends:
            batch.leased -= jobs
            if machine.begun + end <= until + 1e-6:
                self.out.work_s += end - before
                if machine.begun + end > batch.deadline:
                    batch.late += jobs
                    self.out.late += jobs
            else:
                if not batch.jobs:
                    self.batches.append(batch)
                batch.jobs += jobs
                self.out.wasted_s += max(0.0, until - machine.begun - before)
            before = end
        machine.batch = None
        if not batch.jobs and not batch.leased:
            self.open.remove(batch)
            self.out.batches_late += batch.late > 0

    def _drain(self, machine: Machine) -> None:
        """What runs is ended, what has not begun is given back."""
        if machine.draining:
            return
        machine.draining = True
        machine.turn += 1
        if machine.batch is None:
            return
        last = next(end for end, _ in machine.ends if machine.begun + end >= self.now - 1e-6)
        kept = [one for one in machine.ends if one[0] <= last]
        back = sum(jobs for end, jobs in machine.ends if end > last)
        machine.ends = kept
        machine.batch.leased -= back
        if back:
            if not machine.batch.jobs:
                self.batches.append(machine.batch)
            machine.batch.jobs += back
            self._wake()
        self._at(machine.begun + last, "ended", machine)

    # Machines come and go.

    def _grow(self, pool: Pool, count: int) -> None:
        for _ in range(count):
            market = self._open_market() if pool.spot else 0
            if market is None:
                return
            self.born += 1
            machine = Machine(f"m{self.born}", pool.name, market, self.now)
            self.fleet[pool.name][machine.id] = machine
            self._at(self.now + self.draw.uniform(*self.market.start_s), "ready", machine)
            if pool.spot:
                self._at(self.now + self.draw.expovariate(self.market.rate / 2 / HOUR), "taken", machine.id)

    def _open_market(self) -> int | None:
        used = [0] * self.market.markets
        for machine in self.fleet["spot"].values():
            used[machine.market] += 1
        there = [n for n, until in enumerate(self.closed_until) if until <= self.now]
        there = [n for n in there if used[n] < self.market.room]
        return min(there, key=lambda n: used[n]) if there else None

    def _ready(self, machine: Machine) -> None:
        machine.ready = True
        if machine.draining:
            self._remove(machine)
        else:
            self._work(machine)

    def _remove(self, machine: Machine) -> None:
        if self.fleet[machine.pool].pop(machine.id, None) is None:
            return
        machine.turn += 1
        machine.draining = True
        seconds = self.now - machine.born
        cost = seconds / HOUR * (self.market.price if machine.pool == "spot" else 1.0)
        self.out.cost += cost
        self.out.own_cost += cost if machine.pool == "own" else 0.0
        self.out.billed_s += seconds

    def _taken(self, id: str) -> None:
        """One spot machine alone is interrupted."""
        machine = self.fleet["spot"].get(id)
        if machine is not None:
            self._interrupt(machine)

    def _interrupt(self, machine: Machine) -> None:
        self.out.interruptions += 1
        if self.draw.random() >= self.market.unnoticed and machine.ready:
            self._drain(machine)
            if machine.batch is None:
                self._remove(machine)
            return
        self._settle(machine, self.now)
        self._remove(machine)
        self._wake()

    def _next_crunch(self) -> None:
        # A crunch takes 60 % of one market on average: that many an hour make the other half of the rate.
        an_hour = self.market.rate / 2 * self.market.markets / 0.6
        self._at(self.now + self.draw.expovariate(an_hour / HOUR), "crunch")

    def _crunch(self, _: object) -> None:
        """One market wants most of its machines back, and sells none for a while."""
        market = self.draw.randrange(self.market.markets)
        share = self.draw.uniform(0.3, 0.9)
        self.closed_until[market] = self.now + self.draw.uniform(600, 3600)
        for machine in [one for one in self.fleet["spot"].values() if one.market == market]:
            if self.draw.random() < share:
                self._interrupt(machine)
        if self.now < DAY or self.open:
            self._next_crunch()

    # The scaler: the real one's steps, with the simulation's clock.

    def _tick(self, _: object) -> None:
        held = [batch for batch in self.open if batch.jobs or batch.leased]
        backlogs = {}
        if held:
            due = tuple(
                Due(max(0.0, batch.deadline - self.now), (batch.jobs + batch.leased) * job_s())
                for batch in held
            )
            jobs = sum(batch.jobs + batch.leased for batch in held)
            leased = sum(batch.leased for batch in held)
            backlogs[QUEUE] = Backlog(jobs, leased, 0, sum(one.work_s for one in due), due)
        seen, fleets = {}, {}
        for pool in self.pools:
            machines = [
                Seen(one.id, one.ready, one.draining, one.batch is not None)
                for one in self.fleet[pool.name].values()
            ]
            staying = [one for one in machines if not one.draining]
            running = sum(one.working for one in staying)
            seen[pool.name], fleets[pool.name] = machines, Fleet(running, len(staying) - running)
        decided = decide(self.pools, backlogs, fleets, self.past, self.now)
        self.past = dict(decided.past)
        for pool in self.pools:
            todo = steps(decided.decisions[pool.name].desired, seen[pool.name])
            for id in todo.drain:
                self._drain(self.fleet[pool.name][id])
            for id in todo.retire:
                machine = self.fleet[pool.name].get(id)
                if machine is not None:
                    self._remove(machine)
            self._grow(pool, todo.grow)
        self.out.most = max(self.out.most, sum(len(fleet) for fleet in self.fleet.values()))
        if self.now < DAY or self.open or any(self.fleet.values()):
            self._at(self.now + TICK_S, "tick")

    def _at(self, when: float, kind: str, what: object = None) -> None:
        self.count += 1
        turn = what.turn if isinstance(what, Machine) else 0
        heapq.heappush(self.events, (when, self.count, kind, what, turn))


def simulate(scenario: Scenario) -> Outcome:
    return Simulation(scenario).run()


RATES, TARGETS = (0.05, 0.10, 0.15, 0.20), (300.0, 900.0, 1800.0, 3600.0)
SCENARIOS = (
    [Scenario("on demand", spot=False)]
    + [Scenario(f"{rate:.0%}", rate=rate) for rate in RATES]
    + [Scenario(f"20%, {target:.0f} s", rate=0.2, target_s=target) for target in TARGETS if target != 900.0]
    + [Scenario("20%, 60 % off", rate=0.2, price=0.4)]
    + [Scenario(f"20%, seed {seed}", rate=0.2, seed=seed) for seed in (2, 3)]
    + [Scenario(f"on demand, seed {seed}", spot=False, seed=seed) for seed in (2, 3)]
)


def main() -> None:
    """Simulate every scenario, print the table, and write it and the plot into the documentation."""
    started = time.monotonic()
    with ProcessPoolExecutor() as pool:
        outcomes = list(pool.map(simulate, SCENARIOS))
    text = table(outcomes)
    print(text)
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr)
    docs = Path(__file__).resolve().parents[1] / "docs"
    draw_plot(outcomes, docs / "plots" / "spot.svg")
    page = docs / "scale.md"
    head, _, rest = page.read_text().partition("<!-- spot -->\n")
    tail = rest.partition("<!-- end of spot -->")[2]
    page.write_text(f"{head}<!-- spot -->\n{text}\n<!-- end of spot -->{tail}")


def share_of_own(one: Outcome, outcomes: Sequence[Outcome]) -> float:
    """Its cost as a share of the same day's on demand alone."""
    base = next(o for o in outcomes if not o.scenario.spot and o.scenario.seed == one.scenario.seed)
    return one.cost / base.cost


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown, one row a scenario."""
    rows = [
        "| Interrupted an hour | spot price | target | seed | cost, of on demand | of it bought on demand "
        "| jobs in time | batches in time | work done twice | paid, not worked | interruptions | most machines |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        made = one.scenario
        rows.append(
            f"| {f'{made.rate:.0%}' if made.spot else 'on demand alone'} | {made.price if made.spot else 1} "
            f"| {made.target_s:.0f} s | {made.seed} "
            f"| {share_of_own(one, outcomes):.1%} | {one.own_cost / one.cost:.1%} "
            f"| {1 - one.late / one.jobs:.2%} | {one.batches - one.batches_late} of {one.batches} "
            f"| {one.wasted_s / one.work_s:.3%} | {1 - (one.work_s + one.wasted_s) / one.billed_s:.1%} "
            f"| {one.interruptions:,} | {one.most:,} |"
        )
    return "\n".join(rows)


def draw_plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Cost against what is late: the lower left is better."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for rate in (*RATES, None):
        points = [one for one in outcomes if (one.scenario.rate if one.scenario.spot else None) == rate]
        label = "on demand alone" if rate is None else f"{rate:.0%} interrupted an hour"
        axes.scatter(
            [100 * share_of_own(one, outcomes) for one in points],
            [100 * one.late / one.jobs for one in points],
            label=label,
        )
        for one in points:
            if one.scenario.spot and one.scenario.target_s != 900.0:
                at = (100 * share_of_own(one, outcomes), 100 * one.late / one.jobs)
                axes.annotate(f"target {one.scenario.target_s:.0f} s", at, fontsize=7)
    axes.axvline(45, color="grey", linestyle=":", linewidth=1)
    axes.axhline(1, color="grey", linestyle=":", linewidth=1)
    axes.set_xlabel("cost, % of on demand alone")
    axes.set_ylabel("jobs late, %")
    axes.set_xlim(left=0)
    axes.legend(fontsize=8)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
