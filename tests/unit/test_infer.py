"""infer: one bad input fails alone, whatever the batch does."""

from contextlib import nullcontext
from pathlib import Path
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from app.domain.retry import RetryPolicy
from app.domain.stages import ClaimedJob, Failed, MicroBatch, Outcome, PreparedJob, Succeeded
from app.intake.source import spec_of
from tests.conformance.test_runners import QuietContext
from tests.support import models
from workers.infer import infer
from workers.runners.learned import LearnedCaps
from workers.runners.local import LocalRunner


def load(name: str) -> LocalRunner:
    return LocalRunner.load(spec_of(f"{Path(models.__file__)}:{name}"), "cpu")


def run(runner: LocalRunner, values: list[float]) -> list[Outcome]:
    jobs = []
    for number, value in enumerate(values):
        job = ClaimedJob(UUID(int=number), 1, {"value": value}, 0, 0, None, 60.0, RetryPolicy())
        parsed, units = runner.read(job.input)
        jobs.append(PreparedJob(job, parsed, units))
    return infer(MicroBatch(tuple(jobs)), runner, lambda _: nullcontext(QuietContext()))


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=40))
def test_exactly_the_guilty_fail_and_outcomes_keep_their_order(values: list[float]) -> None:
    outcomes = run(load("RaisesOnNegative"), values)
    assert [outcome.job.id.int for outcome in outcomes] == list(range(len(values)))
    for value, outcome in zip(values, outcomes, strict=True):
        if value < 0:
            assert outcome.verdict == Failed("model_error", "ArithmeticError: negative", True)
        else:
            assert isinstance(outcome.verdict, Succeeded)


def test_out_of_memory_halves_the_batch_and_is_remembered() -> None:
    runner = load("SmallDevice")
    outcomes = run(runner, [1.0] * 8)
    assert all(isinstance(outcome.verdict, Succeeded) for outcome in outcomes)
    assert [outcome.batch_size for outcome in outcomes] == [2] * 8
    assert (runner.caps.items, runner.caps.units) == (2, 2)


def test_caps_outlive_the_runner_that_learned_them() -> None:
    learned = LearnedCaps()
    spec = spec_of(f"{Path(models.__file__)}:SmallDevice")
    run(LocalRunner.load(spec, "cpu", learned=learned), [1.0] * 8)
    assert LocalRunner.load(spec, "cpu", learned=learned).caps.items == 2
    other = spec_of(f"{Path(models.__file__)}:Double")
    assert LocalRunner.load(other, "cpu", learned=learned).caps.items == other.max_batch_items


def test_one_input_that_eats_all_memory_makes_no_later_batch_smaller() -> None:
    runner = load("Greedy")
    outcomes = run(runner, [1.0, 2.0, -1.0, 3.0, 4.0])
    assert [isinstance(outcome.verdict, Succeeded) for outcome in outcomes] == [True, True, False, True, True]
    assert outcomes[2].verdict == Failed(
        "out_of_memory", "there is too little memory for this input alone", False
    )
    assert runner.caps.items == runner.spec.max_batch_items


def test_an_input_too_large_for_the_device_fails_for_good() -> None:
    runner = load("SmallDevice")
    runner._model.room = 0
    (outcome,) = run(runner, [1.0])
    assert isinstance(outcome.verdict, Failed)
    assert outcome.verdict.code == "out_of_memory"
    assert not outcome.verdict.retryable


def test_missing_outputs_fail_each_job_alone() -> None:
    outcomes = run(load("ForgetsOne"), [1.0, 2.0])
    assert [outcome.verdict.code for outcome in outcomes] == ["model_error"] * 2  # type: ignore[union-attr]


@given(st.lists(st.floats(1, 50), min_size=1, max_size=4))
def test_device_time_is_shared_by_units(values: list[float]) -> None:
    outcomes = run(load("Double"), values)
    rates = [outcome.device_s / outcome.units for outcome in outcomes]
    assert max(rates) - min(rates) < 1e-9
