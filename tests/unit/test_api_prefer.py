"""The Prefer header."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.api.prefer import wait_seconds
from app.errors import Malformed


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([], None),
        ([""], None),
        (["wait=5"], 5),
        (["Wait=5"], 5),
        ([" wait = 5 "], 5),
        (['wait="5"'], 5),
        (["wait=0"], 0),
        (["wait=60"], 60),
        (["wait"], 60),
        (["respond-async, wait=5"], 5),
        (["respond-async;x=1, wait=5; y=2"], 5),
        (["respond-async", "wait=5"], 5),
        (["wait=5, wait=9"], 5),
        (['foo="a, wait=9", wait=5'], 5),
        (["waiting=5"], None),
        (["foo; wait=9"], None),
        ([",,,"], None),
    ],
)
def test_the_first_wait_counts(headers: list[str], expected: int | None) -> None:
    assert wait_seconds(headers, 60) == expected


@pytest.mark.parametrize("value", ["abc", "-1", "61", "1.5", "", "1e1", "٣", '"', "9" * 50])
def test_a_wait_that_is_no_number_within_the_limit(value: str) -> None:
    with pytest.raises(Malformed) as refused:
        wait_seconds([f"wait={value}"], 60)
    assert refused.value.code == "invalid_prefer"


@given(st.text(max_size=300))
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        seconds = wait_seconds([header], 60)
        assert seconds is None or 0 <= seconds <= 60
    except Malformed:
        pass


def test_a_long_header_of_quotes_is_read_in_no_time() -> None:
    assert wait_seconds(['"' * 8000 + "\\" * 8000], 60) is None
