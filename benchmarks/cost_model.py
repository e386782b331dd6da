"""The cost model on paper: `python -m benchmarks.cost_model` draws what it predicted beside what came.

Rounds of the same texts, each by a child that knows nothing yet. Writes its section of docs/benchmarks.md and
docs/plots/cost_model.svg.
"""

import statistics
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import report
from benchmarks.backlog import log_normal_texts
from benchmarks.planning import LEARNED, Seen, drain_texts
from benchmarks.report import pyplot
from benchmarks.stack import running

PLOT = report.PAGE.parent / "plots" / "cost_model.svg"


@dataclass(frozen=True, slots=True)
class Round:
    """One child's drain of all texts."""

    errors: list[float]
    """Of each micro-batch, in order: how far its time is from what was predicted, as a share of that."""
    padding: float
    texts_per_s: float

    @property
    def learned(self) -> float:
        """The median error once `LEARNED` micro-batches were seen."""
        return statistics.median(self.errors[LEARNED:])


@click.command()
@click.option("--texts", "count", default=1500, show_default=True, help="Texts a round.")
@click.option("--rounds", default=3, show_default=True)
def main(count: int, rounds: int) -> None:
    """Measure, and write docs/benchmarks.md."""
    texts = log_normal_texts(count)
    seen: list[Seen] = []
    done: list[Round] = []
    with running() as stack:
        for _ in range(rounds):
            watched, rate = drain_texts(stack.database_url, stack.redis_url, texts)
            seen.append(watched)
            errors = [
                abs(took - said) / said for said, took in zip(watched.predicted, watched.took, strict=True)
            ]
            done.append(Round(errors, 1 - watched.asked / watched.padded, rate))
    draw(seen, PLOT)
    report.replace_section("cost model", table(done, count, PLOT))


def table(rounds: list[Round], count: int, plot: Path) -> str:
    """The section, as Markdown."""
    rows = [
        (f"median error after {LEARNED} micro-batches", [100 * one.learned for one in rounds], "%"),
        ("padding, of the units computed", [100 * one.padding for one in rounds], "%"),
        ("one child", [one.texts_per_s for one in rounds], " texts/s"),
    ]
    lines = [
        f"{count} texts a round, {len(rounds)} rounds, each by a child that knows nothing yet.",
        report.machine(),
        "",
        "| What | Median (range) |",
        "|---|---|",
    ]
    for name, values, unit in rows:
        middle = statistics.median(values)
        lines.append(f"| {name} | {middle:.1f}{unit} ({min(values):.1f}–{max(values):.1f}) |")
    return "\n".join([*lines, "", f"![predicted and measured times](plots/{plot.name})", ""])


def draw(rounds: list[Seen], plot: Path) -> None:
    """What was predicted against what it took, of every micro-batch after the first `LEARNED` of a round."""
    said = [1000 * value for seen in rounds for value in seen.predicted[LEARNED:]]
    took = [1000 * value for seen in rounds for value in seen.took[LEARNED:]]
    longest = max(said + took)
    figure, axes = pyplot.subplots(figsize=(5, 5), layout="constrained")
    axes.fill_between(
        [0, longest], [0, 0.85 * longest], [0, 1.15 * longest], color="0.9", label="within 15 %"
    )
    axes.plot([0, longest], [0, longest], color="0.6", linewidth=1)
    axes.scatter(said, took, s=8, color="tab:blue", alpha=0.6, label="a micro-batch")
    axes.set_xlabel("predicted, ms")
    axes.set_ylabel("measured, ms")
    axes.legend()
    report.save(figure, plot)


if __name__ == "__main__":
    main()
