"""How many machines: bounds, order of purchase, deadlines, cooldown, and leases that are never cut off."""

from dataclasses import replace
from math import ceil
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from app.domain.pools import Pool
from app.domain.scaling import Backlog, Decision, Due, Fleet, Past, Seen, decide, slots_needed, steps

QUEUE = "cpu.batch"
DAY = 86_400.0


def pool(name: str = "spot", **fields: Any) -> Pool:
    usual = {"queues": (QUEUE,), "purchase": "spot", "price_per_hour": 0.3, "max": 100, "cooldown_s": 60.0}
    return Pool.model_validate({"name": name, **usual, **fields})


SPOT, OWN = pool(), pool("own", purchase="on_demand", price_per_hour=1.0)


def holds(work_s: float, within_s: float = DAY, jobs: int = 10_000) -> dict[str, Backlog]:
    return {QUEUE: Backlog(jobs=jobs, work_s=work_s, due=(Due(within_s, work_s),))}


def once(
    pools: list[Pool], backlogs: dict[str, Backlog], fleets: dict[str, Fleet] | None = None
) -> dict[str, Decision]:
    return dict(decide(pools, backlogs, fleets or {}, {}, 0.0).decisions)


def test_nothing_to_do_is_no_machine_or_the_least() -> None:
    assert once([SPOT, pool("kept", min=2)], {}) == {"spot": Decision(0, "idle"), "kept": Decision(2, "min")}


def test_a_backlog_buys_what_works_it_off_within_the_target() -> None:
    assert once([pool(target_s=60, slots=2)], holds(1200))["spot"] == Decision(10, "backlog")


def test_never_more_slots_than_jobs() -> None:
    assert once([pool(target_s=1)], holds(1000, jobs=3))["spot"].desired == 3


def test_one_machine_finds_out_how_fast_an_unmeasured_version_is() -> None:
    unknown = {QUEUE: Backlog(jobs=5000, unmeasured=5000)}
    assert once([SPOT, OWN], unknown) == {"spot": Decision(1, "backlog"), "own": Decision(0, "idle")}


def test_a_running_lease_keeps_a_machine() -> None:
    assert once([SPOT], {QUEUE: Backlog(jobs=1, leased=1, work_s=0.01)})["spot"].desired == 1


def test_spot_first_and_the_cheapest_slot_before_that() -> None:
    dear, cheap = pool("dear", price_per_hour=0.4), pool("cheap", price_per_hour=0.5, slots=2, max=5)
    found = once([OWN, dear, cheap], holds(60 * 30))
    assert {name: one.desired for name, one in found.items()} == {"cheap": 5, "dear": 20, "own": 0}


def test_on_demand_alone_serves_what_no_spot_pool_does() -> None:
    assert once([OWN], holds(600))["own"] == Decision(10, "backlog")


def test_on_demand_takes_what_spot_can_not_finish_in_time() -> None:
    small = pool(max=10)
    found = once([small, OWN], holds(36_000, within_s=1200))
    needed = ceil(36_000 / (0.8 * 1200 - 120))
    assert found == {"spot": Decision(10, "max"), "own": Decision(needed - 10, "deadline")}


def test_spot_that_does_not_come_is_not_relied_on() -> None:
    backlogs, fleets = holds(60_000, within_s=1400), {"spot": Fleet(running=20)}
    plan = decide([SPOT, OWN], backlogs, fleets, {}, 0.0)
    assert plan.decisions["own"].desired == 0
    later = decide([SPOT, OWN], backlogs, fleets, plan.past, 121.0)
    assert later.decisions["spot"].desired == 100
    assert later.decisions["own"] == Decision(ceil(60_000 / 1000) - 20, "deadline")
    # It has come after all.
    come = decide([SPOT, OWN], backlogs, {"spot": Fleet(100)}, later.past, 300.0)
    assert come.decisions["own"].desired == 0


def test_machines_that_come_one_by_one_are_not_waited_for() -> None:
    backlogs, past = holds(60_000, within_s=1400), {}
    for second in range(0, 200, 10):
        plan = decide([SPOT, OWN], backlogs, {"spot": Fleet(running=second // 10)}, past, float(second))
        past = dict(plan.past)
    assert plan.decisions["own"].desired > 30


def test_fewer_only_when_fewer_were_enough_for_the_cooldown() -> None:
    past: dict[str, Past] = {}
    seen = []
    for second, work_s in [(0, 600), (30, 120), (59, 240), (61, 0), (110, 0), (120, 0), (180, 0)]:
        plan = decide([SPOT], holds(work_s) if work_s else {}, {}, past, float(second))
        past = dict(plan.past)
        seen.append(plan.decisions["spot"].desired)
    assert seen == [10, 10, 10, 4, 4, 0, 0]


def test_a_scaler_that_starts_gives_nothing_back_at_once() -> None:
    first = decide([SPOT], {}, {"spot": Fleet(running=7)}, {}, 0.0)
    assert first.decisions["spot"] == Decision(7, "cooldown")
    assert decide([SPOT], {}, {"spot": Fleet(running=7)}, first.past, 61.0).decisions["spot"].desired == 0


def test_deadlines_are_met_one_after_the_other() -> None:
    assert slots_needed([Due(1000, 8000)]) == 10
    assert slots_needed([Due(2000, 8000), Due(1000, 8000)]) == 10
    assert slots_needed([Due(1000, 8000), Due(1100, 8000)]) == 16_000 / (0.8 * 1100)
    assert slots_needed([Due(0, 30)]) == 1


POOLS = st.lists(
    st.builds(
        lambda purchase, price, low, more, slots, queues: pool(
            purchase=purchase,
            price_per_hour=price,
            min=low,
            max=low + more,
            slots=slots,
            queues=tuple(queues),
        ),
        st.sampled_from(["spot", "on_demand"]),
        st.floats(0, 10),
        st.integers(0, 5),
        st.integers(1, 50),
        st.integers(1, 8),
        st.sets(st.sampled_from(["cpu.batch", "cpu.interactive"]), min_size=1),
    ),
    min_size=1,
    max_size=5,
).map(lambda made: [replace_name(one, f"p{number}") for number, one in enumerate(made)])
WORK = st.floats(0, 1e6)
BACKLOGS = st.dictionaries(
    st.sampled_from(["cpu.batch", "cpu.interactive", "gpu.batch"]),
    st.builds(
        lambda jobs, due: Backlog(jobs=jobs, work_s=sum(one.work_s for one in due), due=tuple(due)),
        st.integers(0, 10_000),
        st.lists(st.builds(Due, st.floats(0, 1e5), WORK), max_size=4),
    ),
)
FLEETS = st.dictionaries(
    st.sampled_from([f"p{n}" for n in range(5)]), st.builds(Fleet, st.integers(0, 60), st.integers(0, 60))
)


def replace_name(one: Pool, name: str) -> Pool:
    return one.model_copy(update={"name": name})


@given(POOLS, st.lists(st.tuples(st.floats(0, 300), BACKLOGS, FLEETS), min_size=1, max_size=5))
def test_every_decision_is_within_bounds_and_none_is_missing(pools: list[Pool], story: Any) -> None:
    past: Any = {}
    now = 0.0
    for passed, backlogs, fleets in story:
        now += passed
        plan = decide(pools, backlogs, fleets, past, now)
        past = plan.past
        assert set(plan.decisions) == {one.name for one in pools}
        for one in pools:
            assert one.min <= plan.decisions[one.name].desired <= one.max
            times = [when for when, _ in past[one.name].asked]
            assert times == sorted(times)
        # Work that somebody serves has a machine, whatever is known of it.
        for queue, backlog in backlogs.items():
            serving = [one for one in pools if queue in one.queues]
            if backlog.jobs and serving:
                assert sum(plan.decisions[one.name].desired for one in serving) >= 1


@given(POOLS, BACKLOGS, WORK)
def test_more_work_never_asks_for_fewer_machines_in_all(
    pools: list[Pool], backlogs: Any, more: float
) -> None:
    def slots(of: Any) -> float:
        found = decide(pools, of, {}, {}, 0.0).decisions
        return sum(found[one.name].desired * one.slots for one in pools)

    most = max(one.slots for one in pools) * len(pools)
    grown = {
        queue: replace(one, work_s=one.work_s + more, due=(*one.due, Due(1e5, more)))
        for queue, one in backlogs.items()
    }
    # Machines are whole: a pool may round up what the next one then need not.
    assert slots(grown) >= slots(backlogs) - most


MACHINES = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 3)), max_size=12).map(
    lambda made: [
        Seen(f"m{n}", working, working and draining, leases if working else 0)
        for n, (working, draining, leases) in enumerate(made)
    ]
)


@given(st.integers(0, 15), MACHINES)
def test_no_machine_is_stopped_under_a_lease(desired: int, machines: list[Seen]) -> None:
    todo = steps(desired, machines)
    by_id = {machine.id: machine for machine in machines}
    assert all(not by_id[id].leases for id in todo.retire)
    assert all(by_id[id].draining or not by_id[id].working for id in todo.retire)
    assert not set(todo.drain) & set(todo.retire)


@given(st.integers(0, 15), MACHINES)
def test_what_stays_and_what_comes_is_what_was_decided(desired: int, machines: list[Seen]) -> None:
    todo = steps(desired, machines)
    staying = {machine.id for machine in machines if not machine.draining}
    assert len(staying - set(todo.drain) - set(todo.retire)) + todo.grow == desired
    assert not (todo.grow and todo.drain)
    assert todo.kept == sum(machine.draining and machine.leases > 0 for machine in machines)


def test_those_that_do_nothing_go_first() -> None:
    machines = [
        Seen("busy", True, leases=9),
        Seen("idle", True),
        Seen("coming", False),
        Seen("less", True, leases=1),
    ]
    assert steps(3, machines).retire == ("coming",)
    assert steps(2, machines).drain == ("idle",)
    assert steps(1, machines).drain == ("idle", "less")
