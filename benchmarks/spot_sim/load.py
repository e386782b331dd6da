"""A day of load: batches with deadlines and interactive requests, cut into pieces that one machine works off.

A piece is planned once by the real `window_for` and `plan`, from sampled lengths; a day reuses a few of them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import cos, pi
from random import Random
from uuid import UUID

from app.domain.cost import Cost
from app.domain.lanes import Lane
from app.domain.planning import Caps, plan
from app.domain.retry import RetryPolicy
from app.domain.stages import ClaimedJob, PreparedJob
from app.domain.window import window_for

DAY_S = 86_400.0
HOUR_S = 3_600.0
MODEL = Cost(fixed=0.06, per_unit=1.5e-4, per_item=0.002)
"""A model of medium size on one device: 20 ms for a usual input, about half a second for a micro-batch."""
CAPS = Caps(items=32)
WINDOWS = {Lane.INTERACTIVE: 1, Lane.BATCH: 30}
"""Windows in a piece. A machine claims them one after the other; a kill is charged with one."""
VARIETY = 16
INTERACTIVE_S, BATCH_HOURS = 15.0, (1.0, 2.0, 4.0, 8.0)
"""Deadlines: of an interactive request from its arrival, of a batch by the customer's choice."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Windows that one machine works off in a row."""

    lane: Lane
    ends: tuple[float, ...]
    """When each micro-batch ends, in seconds of work from the piece's begin."""
    jobs: tuple[int, ...]
    """Jobs before each micro-batch, and at last all of them."""
    window_ends: tuple[int, ...]
    """Micro-batches before the end of each window."""

    @property
    def work_s(self) -> float:
        return self.ends[-1]


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer asked for at one moment: one interactive piece, or a batch of many."""

    number: int
    at: float
    due: float
    lane: Lane
    pieces: tuple[int, ...]
    """Indices into `pieces(lane)`."""


def pieces(lane: Lane, seed: int) -> list[Piece]:
    """The pieces that a day is made of."""
    random = Random(f"{seed} pieces {lane}")
    mean = sum(_units(random) for _ in range(2000)) / 2000
    most = window_for(lane, MODEL, mean, CAPS).most
    return [_piece(random, lane, most) for _ in range(VARIETY)]


def _piece(random: Random, lane: Lane, most: int) -> Piece:
    now, ends, jobs, borders = 0.0, list[float](), [0], list[int]()
    for _ in range(WINDOWS[lane]):
        for micro_batch in plan([_job(number, _units(random)) for number in range(most)], MODEL, CAPS):
            now += MODEL.of(len(micro_batch.jobs), micro_batch.padded_units)
            ends.append(now)
            jobs.append(jobs[-1] + len(micro_batch.jobs))
        borders.append(len(ends))
    return Piece(lane, tuple(ends), tuple(jobs), tuple(borders))


def _units(random: Random) -> int:
    return max(8, min(512, round(random.lognormvariate(4.5, 0.7))))


def _job(number: int, units: int) -> PreparedJob:
    return PreparedJob(ClaimedJob(UUID(int=number), 1, {}, 0, 0, None, 60.0, RetryPolicy()), None, units)


def curve(at: float) -> float:
    """The time of day's share of the mean: 0.4 at 3 o'clock, 1.6 at 15."""
    return 1 - 0.6 * cos(2 * pi * (at - 3 * HOUR_S) / DAY_S)


def day(machines: float, seed: int, hours: float = 24.0, interactive: float = 0.05) -> list[Order]:
    """Orders by arrival. `machines` is how many the mean load keeps busy, the share `interactive` of them
    with interactive requests; a sixth of the batches' work comes in bursts, which begin at once.
    """
    kinds = {lane: pieces(lane, seed) for lane in Lane}
    orders = [
        *_interactive(machines * interactive, kinds[Lane.INTERACTIVE], seed, hours * HOUR_S),
        *_batches(machines * (1 - interactive), kinds[Lane.BATCH], seed, hours * HOUR_S),
    ]
    orders.sort(key=lambda order: (order.at, order.lane, order.number))
    return orders


def _interactive(machines: float, kinds: list[Piece], seed: int, end: float) -> Iterator[Order]:
    random = Random(f"{seed} interactive")
    usual = _mean(kinds)
    swells = sorted(random.uniform(0, end) for _ in range(round(8 * end / DAY_S)))
    now, number = 0.0, 0
    while True:
        # Eight times a day the rate doubles within ten minutes, and falls again.
        swell = sum(max(0.0, 1 - abs(now - at) / 600) for at in swells)
        now += random.expovariate(machines * curve(now) * (1 + swell) / usual)
        if now >= end:
            return
        number += 1
        yield Order(number, now, now + INTERACTIVE_S, Lane.INTERACTIVE, (random.randrange(len(kinds)),))


def _batches(machines: float, kinds: list[Piece], seed: int, end: float) -> Iterator[Order]:
    random = Random(f"{seed} batches")
    usual = _mean(kinds)
    # A batch of 3 machine-hours every few minutes, and bursts of 80.
    for share, size_h, first in ((5 / 6, 3.0, 1_000_000), (1 / 6, 80.0, 2_000_000)):
        size_h = min(size_h, machines * end / HOUR_S / 10)
        now, number = 0.0, first
        while True:
            now += random.expovariate(share * machines * curve(now) / (size_h * HOUR_S))
            if now >= end:
                break
            number += 1
            count = max(1, round(random.lognormvariate(-0.18, 0.6) * size_h * HOUR_S / usual))
            chosen = tuple(random.randrange(len(kinds)) for _ in range(count))
            due = now + random.choice(BATCH_HOURS) * HOUR_S
            yield Order(number, now, due, Lane.BATCH, chosen)


def _mean(kinds: list[Piece]) -> float:
    return sum(piece.work_s for piece in kinds) / len(kinds)
