"""One run: load, fault, quiet, judgement, time of recovery."""

from dataclasses import dataclass, field

from tests.chaos.field import Fault, Field
from tests.chaos.scenarios import Scenario


@dataclass(frozen=True)
class Run:
    """What came of it."""

    scenario: str
    seed: int
    jobs: int
    recovered_s: float
    violations: list[str]
    figures: dict[str, float] = field(default_factory=dict)


def run(field: Field, scenario: Scenario, seed: int) -> Run:
    """Play a scenario, wait until all is quiet, and judge. What can't even become quiet raises."""
    fault = Fault(field, scenario.name, seed)
    scenario.play(fault)
    recovered_s = fault.recovered_s()
    field.wait_ready()
    return Run(scenario.name, seed, fault.ledger.promised(), recovered_s, fault.judge(), fault.figures)
