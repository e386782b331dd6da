"""Faults once each, on one stack: the short form. `make chaos` plays each of them with many seeds."""

from collections.abc import Iterator

import pytest

from tests.chaos.field import Field, open_field
from tests.chaos.frame import run
from tests.chaos.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.timeout(150)


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A stack that may be broken."""
    with open_field(tmp_path_factory.mktemp("chaos") / "state") as opened:
        yield opened


SHORT = [scenario for scenario in SCENARIOS if scenario.short]


@pytest.mark.parametrize("scenario", SHORT, ids=lambda scenario: scenario.name)
def test_nothing_is_lost(field: Field, scenario: Scenario) -> None:
    done = run(field, scenario, seed=1)
    assert done.violations == []
    assert done.recovered_s <= scenario.bound_s
