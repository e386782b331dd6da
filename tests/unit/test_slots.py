"""How a machine's cores are shared out among children."""

from hypothesis import given
from hypothesis import strategies as st

from app.commands.slots import Slots, candidates, choose


@given(st.integers(1, 256))
def test_candidates_use_the_cores_and_no_more(cores: int) -> None:
    tried = candidates(cores)
    assert (tried[0].children, tried[0].threads) == (1, cores)
    assert (tried[-1].children, tried[-1].threads) == (cores, 1)
    assert all(cores // 2 < each.children * each.threads <= cores for each in tried)
    assert len({each.children for each in tried}) == len(tried)


def test_the_fastest_is_chosen_and_of_equals_the_one_with_fewer_children() -> None:
    assert choose([Slots(1, 4, 100), Slots(2, 2, 150), Slots(4, 1, 200)]).children == 4
    assert choose([Slots(1, 4, 100), Slots(2, 2, 198), Slots(4, 1, 200)]).children == 2
