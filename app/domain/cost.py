"""What a micro-batch costs in time, learned from those that ran: fixed + per unit of padding + per item.

One model belongs to one runner, so to one version on one device in one precision. It knows nothing at
first, and forgets slowly, so that it follows a machine that gets busier or cooler.
"""

from dataclasses import dataclass

WARM_UP = 1
"""Micro-batches that teach nothing: the first one pays for allocating, compiling and paging in."""
MEMORY = 100
"""About how many of the last micro-batches count."""
OUTLIER = 3.0
"""What took this many times longer or shorter than predicted is not believed…"""
NEW_TRUTH = 5
"""…unless as many in a row say so: then what was learned before is forgotten. From fewer nothing was learned
that could be held against another one."""
GUESS = 2.0
"""Usual items that take as long as the fixed part, before anything is known."""
RIDGE = 0.003
"""How much the prior weighs against one micro-batch: it decides only what the data leave open."""


@dataclass(frozen=True, slots=True)
class Work:
    """What was worked off: jobs, their units with padding, and the seconds it took one child."""

    jobs: int = 0
    units: int = 0
    seconds: float = 0.0

    def since(self, before: "Work") -> "Work":
        """What came to it after `before`."""
        return Work(self.jobs - before.jobs, self.units - before.units, self.seconds - before.seconds)


@dataclass(frozen=True, slots=True)
class Cost:
    """Seconds of a micro-batch: `fixed + per_unit * padded units + per_item * items`. None is negative."""

    fixed: float
    per_unit: float
    per_item: float

    def of(self, items: int, padded_units: int) -> float:
        """Seconds that a micro-batch of these takes."""
        return self.fixed + self.per_unit * padded_units + self.per_item * items


class CostModel:
    """Learns a `Cost`: least squares of relative errors over the last micro-batches, none negative."""

    def __init__(self) -> None:
        self.seen = 0
        """Micro-batches observed so far."""
        self.work = Work()
        """All that was observed, but for the warm-up."""
        self.largest_items = self.largest_units = 0.0
        """Of one micro-batch among those that count. Of larger ones little is known."""
        self._cost: Cost | None = None
        self._fresh = self._strange = self._taught = 0
        self._forget()
        self._units = self._items = 0.0

    @property
    def known(self) -> bool:
        """Whether anything was learned, so that times can be predicted."""
        return self.seen > WARM_UP

    @property
    def mean_units(self) -> float:
        """Units of the usual item, padding included; 1 before any was seen."""
        return self._units / self._items if self._items else 1.0

    def cost(self, mean_units: float | None = None) -> Cost:
        """The cost as it is known now. Before anything is, a micro-batch costs as much as `GUESS` items of
        `mean_units` more than its units do: in arbitrary seconds, which is enough to compare plans.
        """
        if not self.known:
            return Cost(GUESS, 1.0 / (mean_units or self.mean_units), 0.0)
        # Fitting costs as much as running a tiny model, so an old cost serves for a while.
        if self._cost is None or self._fresh >= min(16, 1 + self.seen // 8):
            self._cost, self._fresh = self._fit(), 0
        return self._cost

    def observe(self, items: int, padded_units: int, seconds: float) -> float | None:
        """Learn from one that ran. Returns what had been predicted, or None if nothing was known."""
        seconds = max(seconds, 1e-6)
        predicted = self.cost().of(items, padded_units) if self.known else None
        self.seen += 1
        if self.seen <= WARM_UP:
            return None
        work = self.work
        self.work = Work(work.jobs + items, work.units + padded_units, work.seconds + seconds)
        taught = self._taught >= NEW_TRUTH
        if taught and predicted is not None and not predicted / OUTLIER <= seconds <= predicted * OUTLIER:
            self._strange += 1
            if self._strange < NEW_TRUTH:
                return predicted
            self._forget()
        self._strange = 0
        self._learn(items, padded_units, seconds)
        return predicted

    def _forget(self) -> None:
        self._strange = self._taught = 0
        self._cost = None
        self.largest_items = self.largest_units = 0.0
        self._squares = [[0.0] * 3 for _ in range(3)]
        self._products = [0.0] * 3

    def _learn(self, items: int, padded_units: int, seconds: float) -> None:
        keep = 1 - 1 / MEMORY
        row = (1 / seconds, padded_units / seconds, items / seconds)
        for left in range(3):
            self._products[left] = keep * self._products[left] + row[left]
            squares = self._squares[left]
            for right in range(3):
                squares[right] = keep * squares[right] + row[left] * row[right]
        self._units = keep * self._units + padded_units
        self._items = keep * self._items + items
        self.largest_units = max(keep * self.largest_units, padded_units)
        self.largest_items = max(keep * self.largest_items, items)
        self._fresh += 1
        self._taught += 1

    def _fit(self) -> Cost:
        prior = self._prior()
        # Each coefficient is pulled to the prior's, in proportion to it; one per item is not expected.
        scales = (prior[0], prior[1], prior[0])
        squares = [list(row) for row in self._squares]
        products = list(self._products)
        for index, scale in enumerate(scales):
            squares[index][index] += RIDGE / scale**2
            products[index] += RIDGE * prior[index] / scale**2
        return Cost(*_smallest(squares, products))

    def _prior(self) -> tuple[float, float, float]:
        """The cost of the shape assumed before anything was known, as large as the data say."""
        shape = (GUESS, 1.0 / self.mean_units, 0.0)
        product = sum(shape[i] * self._products[i] for i in range(3))
        square = sum(shape[i] * self._squares[i][j] * shape[j] for i in range(3) for j in range(3))
        size = product / square
        return (size, size * shape[1], 0.0)


def _smallest(squares: list[list[float]], products: list[float]) -> tuple[float, float, float]:
    """The `x ≥ 0` with the smallest x·squares·x - 2·products·x, for a positive definite matrix.

    With three coefficients the ones that are zero can be tried out, the fewest first.
    """
    best, lowest = (0.0, 0.0, 0.0), 0.0
    for free in ((0, 1, 2), (0, 1), (1, 2), (0, 2), (0,), (1,), (2,)):
        solved = _solve([[squares[i][j] for j in free] for i in free], [products[i] for i in free])
        if min(solved) < 0:
            continue
        # At the minimum over the free ones the value is -products·x.
        value = -sum(products[i] * x for i, x in zip(free, solved, strict=True))
        if value < lowest:
            found = dict(zip(free, solved, strict=True))
            best, lowest = (found.get(0, 0.0), found.get(1, 0.0), found.get(2, 0.0)), value
        if len(free) == 3:
            break
    return best


def _solve(matrix: list[list[float]], values: list[float]) -> list[float]:
    """Gauss's elimination. Positive definite: no pivot is zero."""
    size = len(values)
    rows = [[*matrix[i], values[i]] for i in range(size)]
    for i in range(size):
        for j in range(i + 1, size):
            factor = rows[j][i] / rows[i][i]
            for k in range(i, size + 1):
                rows[j][k] -= factor * rows[i][k]
    solved = [0.0] * size
    for i in reversed(range(size)):
        rest = sum(rows[i][j] * solved[j] for j in range(i + 1, size))
        solved[i] = (rows[i][size] - rest) / rows[i][i]
    return solved
