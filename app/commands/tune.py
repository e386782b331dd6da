"""`headracectl models tune`: measure the variants of a model, refuse those that answer something else, keep
the fastest as a version of its own."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.commands import trials
from app.commands.common import actor, as_json, operator_command
from app.commands.trials import Conditions, Trial
from app.db import models as sql
from app.db.engine import make_engine
from app.domain.lanes import Device
from app.domain.variants import TUNABLE, Variant
from app.errors import Invalid, NotFound
from app.intake.registry import add_variant
from app.intake.source import load_class
from app.settings import Settings

MIN_ITEMS = 64
"""A shorter sample is repeated until it has as many: a round must take longer than a clock's noise."""


@click.command()
@click.argument("model", metavar="NAME[@VERSION]")
@click.option(
    "--sample",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Inputs to measure with, one JSON object a line. Default: the class's own `examples`.",
)
@click.option(
    "--variants",
    default=",".join(TUNABLE),
    show_default=True,
    help="What to try, separated by commas.",
)
@click.option(
    "--min-similarity",
    type=click.FloatRange(0, 1),
    default=0.999,
    show_default=True,
    help="The quality gate: how alike every answer must be to that of fp32.",
)
@click.option(
    "--min-speedup",
    type=click.FloatRange(min=0),
    default=1.1,
    show_default=True,
    help="How many times as fast as fp32 it must be to be worth a version.",
)
@click.option("--items", type=click.IntRange(1), default=16, show_default=True, help="Micro-batch size.")
@click.option("--rounds", type=click.IntRange(1), default=5, show_default=True, help="Rounds of each.")
@click.option("--threads", type=click.IntRange(1), help="Torch threads. Default: those of a child, else 1.")
@click.option("--register/--no-register", default=True, help="Register the chosen one as a version.")
@as_json
@operator_command
def tune(
    settings: Settings,
    model: str,
    sample: Path | None,
    variants: str,
    min_similarity: float,
    min_speedup: float,
    items: int,
    rounds: int,
    threads: int | None,
    register: bool,
    as_json: bool,
) -> None:
    """Measure a model's variants against fp32 and register the best that passes the quality gate.

    Every variant is loaded on this machine, in a process of its own. The version that is chosen is
    registered as NAME@VERSION-VARIANT; the current version stays the current one until `models use`.
    """
    wanted = _variants(variants)
    name, _, version = model.partition("@")
    engine = make_engine(settings.database_url)
    found = sql.find(engine, name, version or None)
    if found is None:
        raise NotFound("model_not_found", f"there is no model {model}")
    spec = found.spec
    if spec.variant not in (Variant.AUTO, Variant.FP32):
        raise Invalid(
            "invalid_model", f"{spec.name}@{spec.version} is a variant already: tune what it was made from"
        )
    inputs = _read(sample) if sample else list(load_class(spec.source).examples)
    if not inputs:
        raise Invalid(
            "invalid_model",
            f"{spec.name} has no examples to measure with: give --sample FILE.jsonl, or the class `examples`",
        )
    inputs *= -(-MIN_ITEMS // len(inputs))
    device = settings.worker.device
    if device == "auto":
        device = "cuda:0" if spec.device is Device.GPU else "cpu"
    threads = threads or settings.worker.torch_threads or 1
    conditions = Conditions(inputs, device, threads, items, rounds, settings.worker.exports_dir)
    done = []
    for trial in trials.run(spec, wanted, conditions):
        done.append(trial)
        if not as_json:
            click.echo(f"measured {trial.variant}", err=True)
    chosen = trials.choose(done, min_similarity, min_speedup)
    registered = None
    if chosen and register:
        tuned = add_variant(engine, spec, chosen.variant, actor=actor())
        registered = f"{tuned.name}@{tuned.version}"
    if as_json:
        click.echo(json.dumps(_report(done, chosen, registered, min_similarity)))
    else:
        Console().print(_table(done, chosen, min_similarity))
        click.echo(_conclusion(chosen, registered, min_speedup))
    if done[0].error:
        raise click.ClickException(f"fp32 itself could not be measured: {done[0].error}")


def _variants(text: str) -> list[Variant]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names or (unknown := [name for name in names if name not in TUNABLE]):
        wrong = ", ".join(map(repr, unknown)) if names else "nothing"
        raise Invalid("invalid_request", f"--variants: {wrong} is none of {', '.join(TUNABLE)}")
    return [Variant(name) for name in dict.fromkeys(names)]


def _read(path: Path) -> list[Any]:
    inputs = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        if line.strip():
            try:
                inputs.append(json.loads(line))
            except json.JSONDecodeError as error:
                raise Invalid("invalid_request", f"{path}, line {number}: {error}") from None
    return inputs


def _verdict(trial: Trial, min_similarity: float) -> str:
    if trial.error:
        return "failed"
    assert trial.quality is not None
    return "passed" if trial.quality.passes(min_similarity) else "refused"


def _report(
    done: list[Trial], chosen: Trial | None, registered: str | None, min_similarity: float
) -> dict[str, Any]:
    return {
        "trials": [{**asdict(trial), "verdict": _verdict(trial, min_similarity)} for trial in done],
        "chosen": chosen.variant if chosen else None,
        "registered": registered,
    }


def _table(done: list[Trial], chosen: Trial | None, min_similarity: float) -> Table:
    table = Table("variant", "items/s", "× fp32", "load s", "RSS MiB", "weights MiB", title="variants")
    for column in ("similarity min", "mean", "agreement", "verdict"):
        table.add_column(column)
    for trial in done:
        quality = trial.quality
        verdict = "chosen" if trial is chosen else _verdict(trial, min_similarity)
        table.add_row(
            trial.variant.value,
            _number(trial.items_per_s, 0),
            _number(trial.speedup, 2),
            _number(trial.load_s, 1),
            _number(trial.rss_mb, 0),
            _number(trial.size_mb, 0),
            _number(quality.similarity_min if quality else None, 5),
            _number(quality.similarity_mean if quality else None, 5),
            _number(quality.agreement if quality else None, 3),
            # Escaped: rich takes the brackets of `headrace[onnx]` for a style.
            escape(f"{verdict}: {trial.error}") if trial.error else verdict,
        )
    return table


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _conclusion(chosen: Trial | None, registered: str | None, min_speedup: float) -> str:
    if chosen is None:
        return (
            f"nothing is registered: no variant passes the quality gate and is {min_speedup:g} times as fast"
        )
    if registered is None:
        return f"{chosen.variant} is the best; nothing is registered, as you asked"
    return (
        f"registered {registered}; clients may name it, and this makes it the current one:\n"
        f"  headracectl models use {registered}"
    )
