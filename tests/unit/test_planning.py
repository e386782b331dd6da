"""Planning micro-batches, by property and against brute force."""

import random
from itertools import combinations
from uuid import UUID

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.cost import Cost, CostModel
from app.domain.lanes import Lane, Priority
from app.domain.planning import PATIENCE, Caps, cheapest, plan
from app.domain.retry import RetryPolicy
from app.domain.stages import ClaimedJob, PreparedJob
from app.domain.window import window_for

PLAIN = Cost(fixed=1.0, per_unit=0.1, per_item=0.0)


def prepared(
    number: int,
    units: int,
    cap: int | None = None,
    priority: Priority = Priority.NORMAL,
    limit_s: float = 60.0,
) -> PreparedJob:
    job = ClaimedJob(UUID(int=number), 1, {}, 0, 0, cap, limit_s, RetryPolicy(), priority=priority)
    return PreparedJob(job, None, units)


caps = st.builds(Caps, st.integers(1, 16), st.one_of(st.none(), st.integers(1, 2000)))
costs = st.builds(Cost, *[st.integers(0, 1000).map(lambda n: n / 64)] * 3)


@st.composite
def windows(draw: st.DrawFn) -> list[PreparedJob]:
    sizes = draw(st.lists(st.integers(1, 300), max_size=60))
    batch_caps = st.one_of(st.none(), st.integers(1, 8))
    priorities = st.sampled_from(Priority)
    return [
        prepared(number, units, draw(batch_caps), draw(priorities), draw(st.sampled_from([5.0, 60.0])))
        for number, units in enumerate(sizes)
    ]


@settings(max_examples=500)
@given(windows(), costs, caps)
def test_every_job_is_in_exactly_one_micro_batch_and_no_cap_is_passed(
    jobs: list[PreparedJob], cost: Cost, caps: Caps
) -> None:
    batches = plan(jobs, cost, caps)
    placed = [item.job.id for batch in batches for item in batch.jobs]
    assert sorted(placed) == sorted(item.job.id for item in jobs)
    for batch in batches:
        assert 1 <= len(batch.jobs) <= caps.items
        assert len(batch.jobs) <= min((item.job.batch_cap or caps.items) for item in batch.jobs)
        assert len({item.job.batch_cap is None for item in batch.jobs}) == 1
        if len(batch.jobs) > 1:
            assert caps.units is None or batch.padded_units <= caps.units
            suspects = batch.jobs[0].job.batch_cap is not None
            seconds = cost.of(len(batch.jobs), batch.padded_units)
            assert suspects or seconds <= PATIENCE * batch.deadline_s + 1e-6


@given(windows(), costs, caps)
def test_suspects_run_last_and_higher_priorities_first(
    jobs: list[PreparedJob], cost: Cost, caps: Caps
) -> None:
    order = [item.job for batch in plan(jobs, cost, caps) for item in batch.jobs]
    kinds = [job.batch_cap is not None for job in order]
    assert kinds == sorted(kinds)
    priorities = [job.priority for job in order if job.batch_cap is None]
    assert priorities == sorted(priorities)


@given(windows(), costs, caps)
def test_within_a_priority_the_job_that_waited_longest_is_in_the_first_micro_batch(
    jobs: list[PreparedJob], cost: Cost, caps: Caps
) -> None:
    free = [job for job in jobs if job.job.batch_cap is None and job.job.priority is Priority.LOW]
    if free:
        assert free[0] in plan(free, cost, caps)[0].jobs


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.integers(1, 60), min_size=1, max_size=10), costs, caps, st.one_of(st.none(), st.just(40.0))
)
def test_no_partition_of_the_sorted_window_is_cheaper(
    sizes: list[int], cost: Cost, caps: Caps, patience: float | None
) -> None:
    sizes.sort()
    runs = cheapest(sizes, cost, caps, patience)
    assert [a for a, _ in runs] == [0, *[b for _, b in runs[:-1]]]
    assert runs[-1][1] == len(sizes)
    assert _total(sizes, runs, cost) == pytest.approx(_brute_force(sizes, cost, caps, patience))


def _total(sizes: list[int], runs: list[tuple[int, int]], cost: Cost) -> float:
    return sum(cost.of(b - a, (b - a) * sizes[b - 1]) for a, b in runs)


def _brute_force(sizes: list[int], cost: Cost, caps: Caps, patience: float | None) -> float:
    def allowed(a: int, b: int) -> bool:
        padded = (b - a) * sizes[b - 1]
        return b - a == 1 or (
            b - a <= caps.items
            and (caps.units is None or padded <= caps.units)
            and (patience is None or cost.of(b - a, padded) <= patience)
        )

    totals = []
    for count in range(len(sizes)):
        for borders in combinations(range(1, len(sizes)), count):
            runs = list(zip((0, *borders), (*borders, len(sizes)), strict=True))
            if all(allowed(a, b) for a, b in runs):
                totals.append(_total(sizes, runs, cost))
    return min(totals)


def test_a_dear_start_makes_large_micro_batches_and_a_cheap_one_near_equal_lengths() -> None:
    jobs = [prepared(number, units) for number, units in enumerate([10, 11, 50, 52, 100, 101])]
    device = plan(jobs, Cost(0.01, 1e-6, 0), Caps(32))
    processor = plan(jobs, Cost(0.001, 1e-4, 0), Caps(32))
    assert [len(batch.jobs) for batch in device] == [6]
    assert [len(batch.jobs) for batch in processor] == [2, 2, 2]


def test_equal_jobs_fill_whole_batches() -> None:
    batches = plan([prepared(n, 5) for n in range(70)], PLAIN, Caps(32))
    assert [len(batch.jobs) for batch in batches] == [32, 32, 6]


def test_padding_counts_against_the_unit_cap() -> None:
    batches = plan([prepared(1, 1), prepared(2, 10)], Cost(1000.0, 0.1, 0.0), Caps(32, 15))
    assert [len(batch.jobs) for batch in batches] == [1, 1]


def test_a_nonsensical_cap_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        Caps(0)


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    fixed=st.floats(0.01, 2.0),
    per_item=st.floats(0.001, 1.0),
    spread=st.sampled_from([1, 50]),
    noise=st.floats(0, 0.12),
)
@example(seed=58663, fixed=1.0, per_item=0.0625, spread=50, noise=0.0625)
def test_where_micro_batches_shall_be_short_99_of_100_are(
    seed: int, fixed: float, per_item: float, spread: int, noise: float
) -> None:
    """By measured speed: nothing is known at first, and what is learned is learned from these. In the example
    the first ones, of an item or two, differ by chance only.
    """
    chance = random.Random(seed)
    costs = CostModel()
    limits = Caps(512, None, 10.0)
    took: list[float] = []
    for _ in range(60):
        known = costs.cost() if costs.known else None
        caps = limits.near(costs)
        window = window_for(Lane.BATCH, known, costs.mean_units, caps)
        jobs = [prepared(number, chance.randint(1, spread), limit_s=600.0) for number in range(window.most)]
        for batch in plan(jobs, costs.cost(), caps, timed=costs.known):
            size, units = len(batch.jobs), batch.padded_units
            seconds = (fixed + per_item * units / spread) * chance.lognormvariate(0, noise)
            costs.observe(size, units, seconds)
            if size > 1:
                took.append(seconds)
    # The first are guesses, and so few can't tell one in a hundred from two.
    assert sum(seconds > 10 for seconds in took) <= max(2, len(took) / 100)


def test_before_any_speed_is_known_short_micro_batches_are_small() -> None:
    jobs = [prepared(number, 1) for number in range(64)]
    assert {len(batch.jobs) for batch in plan(jobs, PLAIN, Caps(64, None, 10.0), timed=False)} == {8}
    assert Caps(64, None, 10.0).half_of(64, 64).seconds == 10.0
