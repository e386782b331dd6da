"""Faults once each, on one stack of each kind: the short form. `make chaos` plays each with many seeds."""

from collections.abc import Iterator

import pytest

from tests.chaos.field import Field, open_field
from tests.chaos.frame import run
from tests.chaos.scenarios import SCENARIOS, Scenario

pytestmark = pytest.mark.timeout(150)

SHORT = [scenario for scenario in SCENARIOS if scenario.short]


@pytest.fixture(scope="module")
def field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """A stack that may be broken."""
    with open_field(tmp_path_factory.mktemp("chaos") / "state") as opened:
        yield opened


@pytest.fixture(scope="module")
def paired_field(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Field]:
    """One with two servers of Postgres."""
    with open_field(tmp_path_factory.mktemp("chaos") / "state", paired=True) as opened:
        yield opened


@pytest.mark.parametrize("scenario", [one for one in SHORT if not one.paired], ids=lambda one: one.name)
def test_nothing_is_lost(field: Field, scenario: Scenario) -> None:
    _play(field, scenario)


@pytest.mark.parametrize("scenario", [one for one in SHORT if one.paired], ids=lambda one: one.name)
def test_nothing_is_lost_with_a_server_of_postgres(paired_field: Field, scenario: Scenario) -> None:
    _play(paired_field, scenario)


def _play(field: Field, scenario: Scenario) -> None:
    done = run(field, scenario, seed=1)
    assert done.violations == []
    assert done.recovered_s <= scenario.bound_s
