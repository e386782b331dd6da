"""infer: a micro-batch becomes one `Outcome` per job. One bad input fails alone."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager

from app.domain.model import Context
from app.domain.stages import Canceled, Failed, MicroBatch, Outcome, PreparedJob, Succeeded
from app.observability import logs, metrics
from workers.runners.base import Ran, Runner
from workers.runners.device import is_out_of_memory
from workers.verdicts import verdict_of

log = logs.get_logger()

Running = Callable[[tuple[PreparedJob, ...]], AbstractContextManager[Context]]
"""Entered around each run of the model with the jobs that run; gives the context they run in."""


def infer(
    micro_batch: MicroBatch,
    runner: Runner,
    running: Running,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Outcome]:
    """Run the micro-batch; where it raises, halve it until the guilty item stands alone.

    A device that runs out of memory halves it too, and the runner remembers the size that was too much.
    """
    started = clock()
    outcomes = _run(micro_batch.jobs, runner, running, clock)
    model, seconds = runner.spec.name, clock() - started
    device_s = sum(outcome.device_s for outcome in outcomes)
    metrics.INFER_SECONDS.labels(model).observe(seconds)
    metrics.INFER_DEVICE_SECONDS.labels(model).inc(device_s)
    logs.of_jobs(
        log,
        "infer.batch",
        [outcome.job.id for outcome in outcomes],
        model=model,
        items=len(outcomes),
        failed=sum(isinstance(outcome.verdict, Failed) for outcome in outcomes),
        seconds=round(seconds, 6),
        device_seconds=round(device_s, 6),
    )
    return outcomes


def _run(
    jobs: tuple[PreparedJob, ...],
    runner: Runner,
    running: Running,
    clock: Callable[[], float],
) -> list[Outcome]:
    started = clock()
    try:
        with running(jobs) as context:
            ran = runner.run([prepared.value for prepared in jobs], context)
    except Exception as error:
        exhausted = is_out_of_memory(error)
        if exhausted:
            runner.free()
        if len(jobs) == 1:
            return [_outcome(jobs[0], verdict_of(error), 1, clock() - started, clock() - started)]
    else:
        return _outcomes(jobs, ran, clock() - started)
    # Beyond the except block: the error's traceback holds what the model had allocated.
    half = len(jobs) // 2
    outcomes = _run(jobs[:half], runner, running, clock) + _run(jobs[half:], runner, running, clock)
    # One input that is too much even alone says nothing about how many others fit together.
    if exhausted and not any(map(_too_much_alone, outcomes)):
        runner.shrink(len(jobs), MicroBatch(jobs).padded_units)
    return outcomes


def _too_much_alone(outcome: Outcome) -> bool:
    return isinstance(outcome.verdict, Failed) and outcome.verdict.code == "out_of_memory"


def _outcomes(jobs: tuple[PreparedJob, ...], ran: Ran, run_s: float) -> list[Outcome]:
    total = sum(prepared.units for prepared in jobs)
    return [
        _outcome(
            prepared,
            Canceled()
            if output is None
            else verdict_of(output)
            if isinstance(output, Exception)
            else Succeeded(output),
            len(jobs),
            run_s,
            ran.device_s * prepared.units / total,
        )
        for prepared, output in zip(jobs, ran.outputs, strict=True)
    ]


def _outcome(
    prepared: PreparedJob, verdict: Succeeded | Failed | Canceled, size: int, run_s: float, device_s: float
) -> Outcome:
    return Outcome(prepared.job, verdict, size, prepared.units, run_s, device_s)
