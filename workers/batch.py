"""batch: `ClaimedJob`s become micro-batches. The model reads each input; one it refuses fails alone."""

from collections.abc import Sequence
from dataclasses import replace

from app.domain.planning import plan
from app.domain.stages import ClaimedJob, MicroBatch, Outcome, PreparedJob
from app.observability import logs, metrics
from workers.runners.base import Runner
from workers.verdicts import verdict_of

log = logs.get_logger()

SETTLE_S = 0.005
"""What settling one more micro-batch takes of the machine, Postgres and waiting clients included. Nobody
waits for it, so no runner learns it; but it runs on the cores that models run on."""


def batch(jobs: Sequence[ClaimedJob], runner: Runner) -> tuple[list[MicroBatch], list[Outcome]]:
    """Micro-batches in the order to run them, and the outcomes of jobs whose input the model refused."""
    prepared: list[PreparedJob] = []
    refused: list[Outcome] = []
    for job in jobs:
        try:
            value, units = runner.read(job.input)
        except Exception as error:  # the model's own validators may raise anything
            refused.append(Outcome(job, verdict_of(error)))
        else:
            prepared.append(PreparedJob(job, value, units))
    mean_units = sum(job.units for job in prepared) / max(1, len(prepared))
    costs, cost = runner.costs, runner.costs.cost(mean_units)
    if costs.known:
        cost = replace(cost, fixed=cost.fixed + SETTLE_S)
    micro_batches = plan(prepared, cost, runner.caps.near(costs), timed=costs.known)
    model = runner.spec.name
    for micro_batch in micro_batches:
        metrics.BATCH_ITEMS.labels(model).observe(len(micro_batch.jobs))
        metrics.BATCH_FILL_RATIO.labels(model).observe(len(micro_batch.jobs) / runner.spec.max_batch_items)
        metrics.BATCH_UNITS.labels(model, "asked").inc(sum(job.units for job in micro_batch.jobs))
        metrics.BATCH_UNITS.labels(model, "padded").inc(micro_batch.padded_units)
    sizes = [len(micro_batch.jobs) for micro_batch in micro_batches]
    log.info("batch.formed", model=model, sizes=sizes, refused=len(refused))
    return micro_batches, refused
