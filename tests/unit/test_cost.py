"""The cost model finds what micro-batches cost, whatever noise they come with."""

import random
import statistics

from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.cost import GUESS, NEW_TRUTH, WARM_UP, Cost, CostModel


def batches(source: random.Random, count: int) -> list[tuple[int, int]]:
    sizes = [source.randint(1, 32) for _ in range(count)]
    return [(items, items * source.randint(7, 120)) for items in sizes]


def errors(model: CostModel, truth: Cost, source: random.Random, count: int, noise: float) -> list[float]:
    """How far each prediction was off, while the model learns."""
    found = []
    for items, units in batches(source, count):
        seconds = truth.of(items, units) * source.lognormvariate(0, noise)
        predicted = model.observe(items, units, seconds)
        if predicted is not None:
            found.append(abs(seconds - predicted) / predicted)
    return found


truths = st.builds(
    Cost,
    st.floats(1e-4, 0.1),
    st.floats(1e-7, 1e-3),
    st.floats(0, 1e-3),
)


@settings(max_examples=50, deadline=None)
@given(truths, st.integers(0, 1000))
def test_after_50_micro_batches_the_median_prediction_is_within_15_percent(truth: Cost, seed: int) -> None:
    model, source = CostModel(), random.Random(seed)
    model.observe(8, 400, 1.0)  # the warm-up
    errors(model, truth, source, 50, noise=0.1)
    # Of so many that the noise itself has the median it should have, which is 0.07.
    assert statistics.median(errors(model, truth, source, 200, noise=0.1)) < 0.15


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(1, 64), st.integers(1, 500), st.floats(1e-6, 100)), min_size=1, max_size=40
    )
)
def test_nothing_is_ever_negative_or_without_a_cost(seen: list[tuple[int, int, float]]) -> None:
    model = CostModel()
    for items, width, seconds in seen:
        model.observe(items, items * width, seconds)
        cost = model.cost()
        assert min(cost.fixed, cost.per_unit, cost.per_item) >= 0
        assert cost.of(1, 1) > 0


def test_before_anything_is_known_the_fixed_part_is_guessed_in_usual_items() -> None:
    model = CostModel()
    assert not model.known
    cost = model.cost(mean_units=40)
    assert cost.fixed == GUESS * (cost.of(1, 40) - cost.fixed)


def test_the_first_micro_batch_teaches_nothing() -> None:
    model = CostModel()
    for _ in range(WARM_UP):
        model.observe(8, 320, 30.0)
    model.observe(8, 320, 0.1)
    assert 0.05 < model.cost().of(8, 320) < 0.2


def test_an_outlier_is_not_believed_and_five_in_a_row_are() -> None:
    model, source = CostModel(), random.Random(1)
    truth = Cost(0.01, 1e-4, 0)
    errors(model, truth, source, 60, noise=0.02)
    model.observe(8, 320, 100 * truth.of(8, 320))
    assert abs(model.cost().of(8, 320) / truth.of(8, 320) - 1) < 0.1
    slower = Cost(0.1, 1e-3, 0)
    errors(model, slower, source, NEW_TRUTH + 20, noise=0.02)
    assert abs(model.cost().of(8, 320) / slower.of(8, 320) - 1) < 0.2
