"""The simulated day keeps its own books: every job is done once, and the same seed is the same day."""

from benchmarks.spot_sim import Day, Market, Scenario, Simulation, job_s

SMALL = Day(work_s=150_000, batches=20, bursts=1, burst_s=40_000)


def simulation(unnoticed: float = 0.1, **scenario: object) -> Simulation:
    return Simulation(Scenario("test", rate=0.2, **scenario), SMALL, Market(unnoticed=unnoticed))  # type: ignore[arg-type]


def test_every_job_of_the_day_is_done_once() -> None:
    day = simulation()
    out = day.run()
    assert out.batches == 21
    assert not day.open
    assert not any(day.fleet.values()), "and no machine is left"
    # Last micro-batches of a batch are smaller, and every draw is another one.
    assert abs(out.work_s - out.jobs * job_s()) < 0.05 * out.work_s
    assert out.work_s + out.wasted_s < out.billed_s


def test_nothing_is_done_twice_when_every_interruption_is_noticed() -> None:
    out = simulation(unnoticed=0.0).run()
    assert out.interruptions > 0
    assert out.wasted_s == 0


def test_a_seed_is_a_day() -> None:
    assert simulation().run() == simulation().run()
    assert simulation(seed=2).run() != simulation().run()
