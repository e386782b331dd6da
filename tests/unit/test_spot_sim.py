"""A small day on paper: the same again, every micro-batch done once, and costs that add up."""

from collections import defaultdict
from dataclasses import asdict
from itertools import pairwise

import pytest

from app.domain.lanes import Lane
from benchmarks.spot_sim.load import day, pieces
from benchmarks.spot_sim.market import Weather
from benchmarks.spot_sim.plans import BULK_ON_SPOT, ON_DEMAND, plans
from benchmarks.spot_sim.simulate import Bill, Simulation, Slice

STORM = Weather(2.0, without_notice=0.5)
"""Every machine is taken twice an hour, half of them without notice."""
ORDERS = day(6, seed=3, hours=3)


def simulated(plan: str = BULK_ON_SPOT, weather: Weather = STORM) -> Bill:
    return Simulation(plans(0.33)[plan], ORDERS, weather, seed=3).run()


def test_the_same_seed_is_the_same_day() -> None:
    assert day(6, seed=3, hours=3) == ORDERS
    assert asdict(simulated()) == asdict(simulated())


def test_every_micro_batch_ends_once_whatever_vanishes() -> None:
    ended = defaultdict[tuple[Lane, int, int], list[tuple[int, int]]](list)

    def note(done: Slice, a: int, b: int) -> None:
        ended[done.order.lane, done.order.number, len(done.piece.ends)].append((a, b))

    bill = Simulation(plans(0.33)[BULK_ON_SPOT], ORDERS, STORM, seed=3, done=note).run()

    kinds = {lane: pieces(lane, 3) for lane in Lane}
    expected = defaultdict[tuple[Lane, int, int], int](int)
    for order in ORDERS:
        for index in order.pieces:
            expected[order.lane, order.number, len(kinds[order.lane][index].ends)] += 1
    assert ended.keys() == expected.keys()
    for key, times in expected.items():
        for place in range(key[2]):
            assert sum(a <= place < b for a, b in ended[key]) == times
    work = sum(kinds[order.lane][index].work_s for order in ORDERS for index in order.pieces)
    assert bill.worked_s == pytest.approx(work)
    assert bill.kills > 5


def test_a_kill_wastes_one_micro_batch_at_most() -> None:
    bill = simulated()
    longest = max(
        b - a for lane in Lane for piece in pieces(lane, 3) for a, b in pairwise((0.0, *piece.ends))
    )
    assert 0 < bill.wasted <= bill.kills < bill.interruptions
    assert 0 < bill.wasted_s <= bill.wasted * longest


def test_a_notice_wastes_nothing() -> None:
    bill = simulated(weather=Weather(2.0, without_notice=0.0))
    assert bill.interruptions
    assert not bill.wasted


def test_costs_are_machine_hours_by_price() -> None:
    bill = simulated()
    prices = {pool.name: pool.price_per_hour for pool in plans(0.33)[BULK_ON_SPOT]}
    assert bill.total == pytest.approx(
        sum(seconds / 3600 * prices[name] for name, seconds in bill.machine_s.items())
    )
    # Whatever works or starts is paid for.
    assert sum(bill.machine_s.values()) > bill.worked_s + bill.wasted_s + bill.starting_s
    assert simulated(ON_DEMAND).total > bill.total
