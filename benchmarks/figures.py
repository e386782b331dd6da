"""Figures: measuring, summing up and showing them."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

Measured = Sequence["Figure"]


@dataclass(frozen=True)
class Figure:
    """One measured value. `ratio` compares it with a baseline of the same run, larger is better."""

    subject: str
    name: str
    value: float
    unit: str
    ratio: float | None = None

    def as_row(self) -> tuple[str, str, str, str]:
        """For a table."""
        ratio = "" if self.ratio is None else f"{self.ratio:.2f}×"
        return self.subject, self.name, f"{self.value:,.2f} {self.unit}", ratio

    def as_json(self) -> dict[str, object]:
        """For a program."""
        return asdict(self)


def time_each(call: Callable[[], object], count: int, warm_up: int = 20) -> list[float]:
    """Milliseconds that each of `count` calls takes, after `warm_up` that are not counted."""
    for _ in range(warm_up):
        call()
    times = []
    for _ in range(count):
        started = time.perf_counter()
        call()
        times.append((time.perf_counter() - started) * 1000)
    return times


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0 to 1) of them lie."""
    return statistics.quantiles(values, n=100, method="inclusive")[round(share * 100) - 1]
