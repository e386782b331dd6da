"""Planning micro-batches: which jobs of a window run together, so that the window takes the least time.

An item is padded to the longest of its micro-batch, so neighbours in length belong together; how many of
them is a trade of padding against the fixed cost of one more micro-batch, and the cost model knows both.
Urgency comes first: a priority is planned and run before the next one. Suspects come last.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from app.domain.cost import Cost, CostModel
from app.domain.stages import MicroBatch, PreparedJob

PATIENCE = 0.5
"""The share of its time limit that a micro-batch may be predicted to take."""
SURE = 0.7
"""The share of `Caps.seconds` that it may be predicted to take, so that 99 of 100 stay below all of it."""
LEAST_S = 1e-9
"""No item takes less: for a division's sake."""
PROBE = 8
"""Items of a micro-batch that may take so many seconds, as long as no time can be predicted."""
REACH = 4
"""How many times as large as the largest that was measured the next one may be, where it may take so many
seconds: small ones, whose times differ by chance, do not tell what more items cost."""


@dataclass(frozen=True, slots=True)
class Caps:
    """What one micro-batch may hold: of the model as registered, or less on a device that was too small."""

    items: int
    units: int | None = None
    """Counting padding. A single job that is larger runs alone."""
    seconds: float | None = None
    """How long one may take, 99 times in 100. A single job that takes longer runs alone."""

    def __post_init__(self) -> None:
        if self.items < 1:
            raise ValueError("a micro-batch must be allowed at least 1 item")

    def half_of(self, items: int, padded_units: int) -> "Caps":
        """The caps after a micro-batch of this size was too much. They never grow."""
        units = max(1, padded_units // 2)
        return replace(
            self,
            items=min(self.items, max(1, items // 2)),
            units=units if self.units is None else min(self.units, units),
        )

    def near(self, costs: CostModel) -> "Caps":
        """These caps, and no micro-batch far larger than those that were measured, if it has to be over in
        time.
        """
        if self.seconds is None or not costs.known:
            return self
        units = max(PROBE, int(REACH * costs.largest_units))
        return replace(
            self,
            items=min(self.items, max(PROBE, int(REACH * costs.largest_items))),
            units=units if self.units is None else min(self.units, units),
        )

    def within(self, cost: Cost | None, mean_units: float) -> "Caps":
        """These caps in items of `mean_units`, so that a micro-batch is over in time. `cost` is in true
        seconds; None as long as nothing is known.
        """
        if self.seconds is None:
            return self
        if cost is None:
            return replace(self, items=min(self.items, PROBE))
        each = cost.per_unit * mean_units + cost.per_item
        left = SURE * self.seconds - cost.fixed
        if each * self.items <= left:
            return self
        return replace(self, items=max(1, int(left / max(each, LEAST_S))))


def plan(jobs: Sequence[PreparedJob], cost: Cost, caps: Caps, *, timed: bool = True) -> list[MicroBatch]:
    """Partition a window, in the order of its claim, into micro-batches, in the order to run them.

    Every job is in exactly one. None passes a cap or the smallest `batch_cap` among its jobs, or is
    predicted to take more than `PATIENCE` of its deadline (if `timed`: `cost` is in true seconds), unless
    it is a single job. Higher priorities run first; within one, whatever holds the job that waited longest.
    Suspects (jobs with a `batch_cap`) have company of their own kind only and run last, so that a poison
    input takes nobody with it.
    """
    if not timed:
        caps = caps.within(None, 1.0)
    free = [(place, job) for place, job in enumerate(jobs) if job.job.batch_cap is None]
    planned: list[MicroBatch] = []
    for _, group in groupby(sorted(free, key=_priority), key=_priority):
        # Stable: of equal lengths, those that waited longest are together.
        window = sorted(group, key=_units)
        patience = _patience(window, caps) if timed else None
        parts = [window[a:b] for a, b in cheapest([job.units for _, job in window], cost, caps, patience)]
        parts.sort(key=_longest_wait)
        planned += [MicroBatch(tuple(job for _, job in part)) for part in parts]
    return planned + list(_suspects([job for job in jobs if job.job.batch_cap is not None], caps))


def cheapest(
    units: Sequence[int], cost: Cost, caps: Caps, patience: float | None = None
) -> list[tuple[int, int]]:
    """The partition of ascending `units` into runs `[a, b)` with the least total cost, exactly.

    `best[b]` is the least cost of the first b: the least `best[a]` plus the cost of `[a, b)`. Since the
    longest of a run is its last, run costs fulfil the quadrangle inequality, so the best `a` never goes
    back as b grows: each b needs to look only from the previous one's on. About n × the size of a
    micro-batch steps; of equal costs the larger run wins.
    """
    count = len(units)
    if not count:
        return []
    if units[0] == units[-1]:
        return _equal(count, units[0], cost, caps, patience)
    fixed, per_unit = cost.fixed, cost.per_unit
    best, border = [0.0] * (count + 1), [0] * (count + 1)
    first = 0
    for b in range(1, count + 1):
        width = units[b - 1]
        room = _room(width, cost, caps, patience)
        first = max(first, b - room)
        slope = per_unit * width
        least, at = best[first] + slope * (b - first), first
        for a in range(first + 1, b):
            value = best[a] + slope * (b - a)
            if value < least:
                least, at = value, a
        best[b], border[b], first = least + fixed, at, at
    runs = []
    b = count
    while b:
        runs.append((border[b], b))
        b = border[b]
    return runs[::-1]


def _patience(window: "list[_Placed]", caps: Caps) -> float:
    patience = PATIENCE * min(job.job.execution_timeout_s for _, job in window)
    return patience if caps.seconds is None else min(patience, SURE * caps.seconds)


def _room(width: int, cost: Cost, caps: Caps, patience: float | None) -> int:
    """How many items of this length may be together; 1 even if one is too many."""
    room = caps.items
    if caps.units is not None:
        room = min(room, caps.units // width)
    if patience is not None:
        each, left = cost.per_unit * width + cost.per_item, patience - cost.fixed
        if each * room > left:
            room = int(left / max(each, LEAST_S))
    return max(1, room)


def _equal(count: int, width: int, cost: Cost, caps: Caps, patience: float | None) -> list[tuple[int, int]]:
    """Nothing is padded: the fewest micro-batches."""
    room = _room(width, cost, caps, patience)
    return [(a, min(a + room, count)) for a in range(0, count, room)]


def _suspects(jobs: list[PreparedJob], caps: Caps) -> Iterator[MicroBatch]:
    current: list[PreparedJob] = []
    for prepared in sorted(jobs, key=lambda job: job.units):
        size = len(current) + 1
        company = min([caps.items, *(job.job.batch_cap or 1 for job in [*current, prepared])])
        # Sizes ascend, so the newcomer is the longest.
        too_wide = caps.units is not None and size * prepared.units > caps.units
        if current and (size > company or too_wide):
            yield MicroBatch(tuple(current))
            current = []
        current.append(prepared)
    if current:
        yield MicroBatch(tuple(current))


_Placed = tuple[int, PreparedJob]


def _priority(placed: _Placed) -> int:
    return placed[1].job.priority


def _units(placed: _Placed) -> int:
    return placed[1].units


def _longest_wait(part: list[_Placed]) -> int:
    return min(place for place, _ in part)
