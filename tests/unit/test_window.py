"""How much one claim takes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.cost import Cost
from app.domain.lanes import Lane
from app.domain.planning import Caps
from app.domain.window import MOST, WORTH_S, window_for

MINILM = Cost(0.007, 145e-6, 0.0)


def test_a_window_is_worth_a_bounded_time() -> None:
    for lane in Lane:
        window = window_for(lane, MINILM, 38, Caps(32))
        assert 0.9 * WORTH_S[lane] < window.most * (0.007 / 32 + 38 * 145e-6) <= WORTH_S[lane]


def test_what_others_wait_for_is_less_while_several_tenants_come() -> None:
    def most(lane: Lane, several: bool) -> int:
        return window_for(lane, MINILM, 38, Caps(32), several=several).most

    assert most(Lane.INTERACTIVE, True) == pytest.approx(most(Lane.INTERACTIVE, False) / 4, abs=1)
    assert most(Lane.BATCH, True) == most(Lane.BATCH, False)


def test_a_fast_model_does_not_claim_the_whole_queue() -> None:
    assert window_for(Lane.BATCH, Cost(1e-4, 0, 1e-6), 1, Caps(64)).most == MOST
    assert window_for(Lane.BATCH, Cost(1e-4, 0, 1e-6), 1, Caps(1000)).most == 2000


def test_a_slow_model_still_gets_a_micro_batch_that_is_worth_its_fixed_cost() -> None:
    slow = window_for(Lane.INTERACTIVE, Cost(1.0, 0.5, 0), 1, Caps(32))
    assert (slow.most, slow.least) == (8, 8)


def test_with_nobody_idle_only_what_takes_long_is_shared() -> None:
    window = window_for(Lane.INTERACTIVE, MINILM, 38, Caps(32), children=2)
    assert window.sharers == 2
    assert window.least >= 16, "what 16 waiting clients send stays together"


def test_while_a_sibling_is_idle_even_little_is_shared() -> None:
    window = window_for(Lane.INTERACTIVE, MINILM, 38, Caps(32), children=4, idle=1)
    assert window.sharers == 2
    assert window.least < 8


@given(
    st.sampled_from(Lane),
    st.one_of(st.none(), st.builds(Cost, *[st.floats(0, 100)] * 3)),
    st.floats(1, 1e5),
    st.builds(
        Caps,
        st.integers(1, 2000),
        st.one_of(st.none(), st.integers(1, 10**6)),
        st.one_of(st.none(), st.floats(0.1, 100)),
    ),
    st.integers(0, 3),
)
def test_any_cost_gives_a_window_that_can_be_claimed(
    lane: Lane, cost: Cost | None, mean_units: float, caps: Caps, idle: int
) -> None:
    window = window_for(lane, cost, mean_units, caps, children=4, idle=idle)
    assert 1 <= window.least <= window.most
    assert window.sharers >= 1
