"""What a model's author did wrong is told in words of what a model is."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.models import Double, Number, Slow


def _some() -> Iterator[dict[str, float]]:
    yield {"value": 1.0}


@pytest.mark.parametrize(
    ("returned", "kind"),
    [
        (None, "NoneType"),
        (Number(value=1), "Number"),
        ({"value": 1.0}, "dict"),
        ("text", "str"),
    ],
)
def test_a_predict_that_returns_no_list_is_told_so(returned: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"must return a list, one output per input, not {kind}"):
        Slow().finish(returned)


@pytest.mark.parametrize("returned", [[{"value": 1.0}], ({"value": 1.0},), _some()])
def test_whatever_else_is_in_order_is_a_list(returned: Any) -> None:
    assert Slow().finish(returned) == [{"value": 1.0}]
    assert Double().finish([1.0]) == [{"value": 1.0}]
