"""Headrace beside what people use today: the same model, the same texts, two processes with one thread each.

`python -m benchmarks.compare` measures in rounds, each system once a round, and writes docs/benchmarks.md
with its plots. Slow: peers are installed on demand, and each is started anew in every round.
"""

import json
import statistics
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import click
from headrace import Client

from benchmarks import report
from benchmarks.backlog import log_normal_texts
from benchmarks.baselines.torch_loop import sorted_loop
from benchmarks.peers import load
from benchmarks.peers.environments import ROOT
from benchmarks.peers.servers import PEERS, Peer
from benchmarks.stack import Stack, running

PLOT = ROOT / "docs" / "plots" / "comparison.svg"
PROCESSES = 2
IDLE = 40


@dataclass
class Series:
    """What one system did, round by round."""

    system: str
    rates: list[float] = field(default_factory=list)
    idle_ms: list[float] = field(default_factory=list)
    """Medians of one round's requests; empty for what answers no requests."""


Measure = Callable[[Stack, list[str]], tuple[float, float | None]]


def raw_loop(variant: str) -> Measure:
    """The model in a plain loop, sorted by length: what the processor gives."""

    def measure(_: Stack, texts: list[str]) -> tuple[float, None]:
        halves = [texts[part::PROCESSES] for part in range(PROCESSES)]
        with ThreadPoolExecutor(PROCESSES) as pool:
            return sum(pool.map(lambda half: sorted_loop(half, variant), halves)), None

    return measure


def headrace(model: str) -> Measure:
    """Single jobs over HTTP by 16 clients, until the last result is there."""

    def measure(stack: Stack, texts: list[str]) -> tuple[float, float]:
        with Client(stack.url, stack.api_key) as client:
            client.run(model, {"text": "load the model"}, timeout=120)
        rate = load.headrace_rate(stack, model, texts)
        return rate, statistics.median(load.headrace_idle(stack, model, texts[:IDLE]))

    return measure


def headrace_bulk(model: str) -> Measure:
    """One file, from the POST of the batch to its finished files."""

    def measure(stack: Stack, texts: list[str]) -> tuple[float, None]:
        with Client(stack.url, stack.api_key) as client:
            load.bulk_rate(client, model, texts[:100])  # loads the model in every child
            return load.bulk_rate(client, model, texts), None

    return measure


def peer(which: Peer) -> Measure:
    """As its own documentation would have it."""

    def measure(stack: Stack, texts: list[str]) -> tuple[float, float]:
        with which.running(stack.redis_url) as url:
            rate = load.texts_per_second(which, url, texts)
            return rate, statistics.median(load.idle_ms(which, url, texts[:IDLE]))

    return measure


def systems(tuned: str | None) -> dict[str, Measure]:
    """What is compared, by name. `tuned` is a variant, of which there is a version."""
    measures: dict[str, Measure] = {
        report.RAW: raw_loop("fp32"),
        "Headrace": headrace("minilm"),
        "Headrace, one file": headrace_bulk("minilm"),
    }
    if tuned:
        measures[f"{report.RAW}, {tuned}"] = raw_loop(tuned)
        measures[f"Headrace, {tuned}"] = headrace(f"minilm@1-{tuned}")
        measures[f"Headrace, {tuned}, one file"] = headrace_bulk(f"minilm@1-{tuned}")
    return measures | {which.name: peer(which) for which in PEERS}


@click.command()
@click.option("--texts", "count", default=1000, show_default=True, help="Texts a round.")
@click.option("--rounds", default=3, show_default=True)
@click.option("--only", multiple=True, help="Systems whose name begins with this.")
@click.option("--tuned", help="A variant to be measured, too, as in bf16.")
@click.option("--data", type=click.Path(path_type=Path), help="Keep the figures here, too, as JSON.")
def main(count: int, rounds: int, only: tuple[str, ...], tuned: str | None, data: Path | None) -> None:
    """Measure, print a table, write docs/benchmarks.md."""
    texts = log_normal_texts(count)
    chosen = {
        name: measure
        for name, measure in systems(tuned).items()
        if not only or name.lower().startswith(tuple(part.lower() for part in only))
    }
    series = {name: Series(name) for name in chosen}
    with running() as stack:
        if tuned:
            stack.headracectl("models", "tune", "minilm", "--variants", tuned)
        for number in range(rounds):
            for name, measure in chosen.items():
                click.echo(f"round {number + 1} of {rounds}: {name}…", err=True)
                rate, idle = measure(stack, texts)
                series[name].rates.append(rate)
                if idle is not None:
                    series[name].idle_ms.append(idle)
    if data:
        data.write_text(json.dumps([vars(one) for one in series.values()], indent=1))
    report.replace_section("comparison", report.comparison(list(series.values()), count, PLOT))


if __name__ == "__main__":
    main()
