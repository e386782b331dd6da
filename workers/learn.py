"""A micro-batch that ran tells its runner's cost model what it cost."""

from collections.abc import Sequence

from app.domain.stages import MicroBatch, Outcome, Succeeded
from app.observability import metrics
from workers.runners.base import Runner


def learn(ran: MicroBatch, runner: Runner, outcomes: Sequence[Outcome], seconds: float) -> None:
    """`seconds` from taking it in hand to handing its outcomes on: what one more micro-batch delays the rest.

    What went wrong, was halved or was cut short says nothing about the next one.
    """
    size = len(ran.jobs)
    if any(each.batch_size != size or not isinstance(each.verdict, Succeeded) for each in outcomes):
        return
    predicted = runner.costs.observe(size, ran.padded_units, seconds)
    if predicted is not None:
        error = abs(seconds - predicted) / predicted
        metrics.BATCH_PREDICTION_ERROR.labels(runner.spec.name).observe(error)
