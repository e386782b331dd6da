"""Faults once each, on one stack of each kind: the short form. `make chaos` plays each with many seeds."""

from collections.abc import Iterator

import pytest

from tests.chaos.field import Field, open_field
from tests.chaos.frame import run
from tests.chaos.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.timeout(150)

SHORT = sorted((scenario for scenario in SCENARIOS if scenario.short), key=lambda scenario: scenario.paired)


@pytest.fixture(scope="module")
def field(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A stack that may be broken."""
    with open_field(tmp_path_factory.mktemp("chaos") / "state", paired=request.param) as opened:
        yield opened


@pytest.mark.parametrize(
    ("field", "scenario"),
    [pytest.param(scenario.paired, scenario, id=scenario.name) for scenario in SHORT],
    indirect=["field"],
)
def test_nothing_is_lost(field: Field, scenario: Scenario) -> None:
    done = run(field, scenario, seed=1)
    assert done.violations == []
    assert done.recovered_s <= scenario.bound_s
