"""What a cloud does to spot machines: it has so many, takes some back one by one and many at once."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random


@dataclass(frozen=True, slots=True)
class Weather:
    """How a day on the market is. A *market* is one machine type in one zone."""

    interruptions_per_h: float
    """Of one machine: half of them alone, half in a capacity event of its market."""
    markets: int = 6
    capacity: int = 150
    """Machines of one market that can be had at once."""
    hit: tuple[float, float] = (0.5, 1.0)
    """The share of a market's machines that an event takes."""
    closed_s: tuple[float, float] = (600.0, 2400.0)
    """How long after an event its market gives no machine."""
    notice_s: tuple[float, float] = (30.0, 120.0)
    without_notice: float = 0.2
    """The share of interruptions that come without any."""
    start_s: tuple[float, float] = (60.0, 180.0)
    """From being asked for to the first claim, paid for; on demand too."""


class Market:
    """The spot market of one day. All of its randomness is its own, so that a plan does not change it."""

    def __init__(self, weather: Weather, seed: int) -> None:
        self.weather = weather
        self._random = Random(f"{seed} market")
        self._events = Random(f"{seed} events {weather.interruptions_per_h}")
        self.held = [0] * weather.markets
        self._closed_until = [0.0] * weather.markets

    def events(self, end: float) -> Sequence[tuple[float, int]]:
        """(when, which market) of all capacity events until `end`."""
        mean_hit = sum(self.weather.hit) / 2
        rate = self.weather.interruptions_per_h / 2 / mean_hit / 3600
        found = []
        for market in range(self.weather.markets if rate else 0):
            now = self._events.expovariate(rate)
            while now < end:
                found.append((now, market))
                now += self._events.expovariate(rate)
        return sorted(found)

    def strike(self, market: int, now: float) -> float:
        """The share of its machines that an event takes. It closes for a while."""
        self._closed_until[market] = now + self._random.uniform(*self.weather.closed_s)
        return self._random.uniform(*self.weather.hit)

    def buy(self, now: float) -> int | None:
        """The market that gives a machine: the one with the fewest of ours. None has one: ask again."""
        best = min(
            (
                market
                for market, held in enumerate(self.held)
                if held < self.weather.capacity and self._closed_until[market] <= now
            ),
            key=lambda market: self.held[market],
            default=None,
        )
        if best is not None:
            self.held[best] += 1
        return best

    def lives_s(self) -> float:
        """When a machine is taken back alone, from now."""
        rate = self.weather.interruptions_per_h / 2 / 3600
        return self._random.expovariate(rate) if rate else float("inf")

    def notice_s(self) -> float:
        """How long before it is taken a machine is told; 0 is not at all."""
        if self._random.random() < self.weather.without_notice:
            return 0.0
        return self._random.uniform(*self.weather.notice_s)

    def start_s(self) -> float:
        return self._random.uniform(*self.weather.start_s)

    def chosen(self, share: float) -> bool:
        return self._random.random() < share
