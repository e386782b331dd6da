"""The quality gate says what is the same and what is not, for outputs of any shape."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.quality import compare, similarity

NUMBER = st.floats(-1e6, 1e6)
OUTPUT = st.recursive(
    st.one_of(st.none(), st.booleans(), st.text(max_size=3), NUMBER, st.lists(NUMBER, max_size=4)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=2), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(OUTPUT)
def test_what_is_equal_is_as_alike_as_can_be(output: Any) -> None:
    assert similarity(output, output) == (1.0, True)


@given(OUTPUT, OUTPUT)
def test_it_is_symmetric_and_never_above_one(left: Any, right: Any) -> None:
    assert similarity(left, right) == similarity(right, left)
    assert similarity(left, right)[0] <= 1


def test_vectors_of_length_one_are_compared_by_their_cosine() -> None:
    turned = {"embedding": [math.cos(0.1), math.sin(0.1)]}
    assert similarity({"embedding": [1.0, 0.0]}, turned)[0] == pytest.approx(math.cos(0.1))


def test_the_same_direction_at_another_length_is_not_alike() -> None:
    assert similarity([1.0, 2.0], [2.0, 4.0])[0] == pytest.approx(0.5)


def test_a_single_number_loses_its_relative_error() -> None:
    assert similarity(100.0, 99.0) == (pytest.approx(0.99), True)
    assert similarity({"a": 0}, {"a": 0.0}) == (1.0, True)


def test_a_tiny_score_beside_a_large_one_does_not_decide() -> None:
    assert similarity({"de": 0.9, "en": 1e-9}, {"de": 0.9, "en": 3e-9})[0] == pytest.approx(1)


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ({"label": "a"}, {"label": "b"}),
        ({"label": "a"}, {"name": "a"}),
        ([1.0], [1.0, 2.0]),
        ({"a": 1}, {"a": True}),
        ({"a": 1.0}, None),
        ([{"a": [True]}], [{"a": [False]}]),
    ],
)
def test_other_labels_other_shapes_and_failures_disagree(left: Any, right: Any) -> None:
    assert not similarity(left, right)[1]


def test_the_worst_item_decides_over_numbers_and_the_share_over_labels() -> None:
    same, other = {"v": [1.0, 0.0], "l": "a"}, {"v": [0.0, 1.0], "l": "b"}
    quality = compare([same] * 4, [same, same, same, other])
    assert (quality.similarity_min, quality.similarity_mean, quality.agreement) == (0.0, 0.75, 0.75)
    assert not quality.passes(0.999)
    assert compare([same], [same]).passes(1.0)


def test_nothing_compared_is_no_pass() -> None:
    with pytest.raises(ValueError, match="needs items"):
        compare([], [])
