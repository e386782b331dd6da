"""`headracectl models slots`: how many children with how many torch threads each this machine runs best."""

import contextlib
import json
import statistics
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import click

from app.commands.common import as_json, operator_command
from app.commands.trials import Conditions, Ended, Process
from app.cores import cores as available
from app.db import models as sql
from app.db.engine import make_engine
from app.domain.lanes import Device
from app.domain.model import ModelSpec
from app.domain.variants import Variant
from app.errors import Invalid, NotFound
from app.intake.source import load_class
from app.settings import Settings

MIN_ITEMS = 64
SAME = 0.97
"""What has at least this share of the best rate is as good; then fewer children win, for their memory."""


@dataclass(frozen=True, slots=True)
class Slots:
    """Children of one worker, torch threads of each, and items per second of all together."""

    children: int
    threads: int
    items_per_s: float = 0.0


def candidates(cores: int) -> list[Slots]:
    """All cores in use, from one child with all threads to one child per core; powers of two between."""
    children = {cores, *(2**power for power in range(cores.bit_length()) if 2**power <= cores)}
    return [Slots(count, cores // count) for count in sorted(children)]


def choose(measured: Sequence[Slots]) -> Slots:
    """The fastest, or the fewest children among those that are as good."""
    best = max(each.items_per_s for each in measured)
    return min((each for each in measured if each.items_per_s >= SAME * best), key=lambda each: each.children)


def measure(spec: ModelSpec, conditions: Conditions, slots: Slots) -> Slots:
    """Run that many processes side by side, each over the whole sample, in rounds. Raises `Ended`."""
    own = replace(conditions, threads=slots.threads)
    with contextlib.ExitStack() as stack:
        crew = [
            stack.enter_context(contextlib.closing(Process(spec, Variant(spec.variant), own)))
            for _ in range(slots.children)
        ]
        pool = stack.enter_context(ThreadPoolExecutor(slots.children))
        list(pool.map(lambda process: process.load(), crew))
        took = []
        for _ in range(conditions.rounds):
            started = time.perf_counter()
            list(pool.map(lambda process: process.round(), crew))
            took.append(time.perf_counter() - started)
    return replace(slots, items_per_s=slots.children * len(conditions.inputs) / statistics.median(took))


@click.command()
@click.argument("model", metavar="NAME[@VERSION]")
@click.option("--items", type=click.IntRange(1), default=16, show_default=True, help="Micro-batch size.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of each.")
@click.option("--cores", type=click.IntRange(1), help="Cores to share out. Default: all of this process.")
@as_json
@operator_command
def slots(settings: Settings, model: str, items: int, rounds: int, cores: int | None, as_json: bool) -> None:
    """Measure a model with few children of many threads up to many children of one, on this machine.

    Prints what a worker should be started with. Nothing is changed.
    """
    name, _, version = model.partition("@")
    found = sql.find(make_engine(settings.database_url), name, version or None)
    if found is None:
        raise NotFound("model_not_found", f"there is no model {model}")
    spec = found.spec
    if spec.device is Device.GPU:
        raise Invalid("invalid_model", f"{name} runs on a GPU: start one child per device")
    inputs = list(load_class(spec.source).examples)
    if not inputs:
        raise Invalid("invalid_model", f"{name} has no examples to measure with: give the class `examples`")
    inputs *= -(-MIN_ITEMS // len(inputs))
    conditions = Conditions(inputs, "cpu", 1, items, rounds)
    measured = []
    try:
        for each in candidates(cores or available()):
            measured.append(measure(spec, conditions, each))
            if not as_json:
                click.echo(
                    "{children} × {threads}: {items_per_s:,.0f} items/s".format(**asdict(measured[-1]))
                )
    except Ended as error:
        raise click.ClickException(f"{model} could not be measured: {error}") from None
    chosen = choose(measured)
    if as_json:
        report = {"measured": [asdict(each) for each in measured], "chosen": asdict(chosen)}
        click.echo(json.dumps(report))
    else:
        children = chosen.children
        click.echo(
            f"start the worker with {children} children (headracectl up --worker NAME:QUEUES:{children}, or"
            f" celery -c {children}) and HEADRACE_WORKER_TORCH_THREADS={chosen.threads}"
        )
