"""`python -m benchmarks.spot_sim`: what spot costs and what it misses, by plan and by rate of interruptions.

Prints a table, or JSON, and writes its section of docs/scale.md and docs/plots/spot.svg.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from app.domain.lanes import Lane
from benchmarks import report
from benchmarks.report import pyplot
from benchmarks.spot_sim.load import day
from benchmarks.spot_sim.market import Weather
from benchmarks.spot_sim.plans import ON_DEMAND, plans
from benchmarks.spot_sim.simulate import Bill, Simulation

PAGE = report.PAGE.parent / "scale.md"
PLOT = report.PAGE.parent / "plots" / "spot.svg"
HEAD = (
    "Plan", "Taken back per h", "Spot machines", "Cost", "Batch jobs in time", "Interactive in time",
    "Interactive wait p99", "Batch wait p99", "Taken back / killed", "Lost micro-batches", "Wasted",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Run:
    """One plan's day."""

    plan: str
    scarce: bool
    rate: float
    ratio: float
    """Cost against on demand only."""
    bill: Bill

    @property
    def met(self) -> float:
        """The share of jobs in time in the lane that has less of it."""
        return min(self.bill.met(lane) for lane in Lane)


def sweep(machines: float, seed: int, hours: float, spot_price: float, rates: tuple[float, ...]) -> list[Run]:
    """Every plan at every rate, with plenty of spot and, at the highest rate, with too little."""
    orders = day(machines, seed, hours)
    declared = plans(spot_price)
    base = Simulation(declared[ON_DEMAND], orders, Weather(0.0), seed).run()
    runs = [Run(ON_DEMAND, False, 0.0, 1.0, base)]
    scarce = max(5, round(machines / 10))
    for name, pools in declared.items():
        weathers = [(False, Weather(rate)) for rate in rates] + [(True, Weather(rates[-1], capacity=scarce))]
        for few, weather in weathers if name != ON_DEMAND else ():
            bill = Simulation(pools, orders, weather, seed).run()
            runs.append(Run(name, few, weather.interruptions_per_h, bill.total / base.total, bill))
    return runs


@click.command()
@click.option("--machines", default=200.0, show_default=True, help="Busy ones, in the mean of the day.")
@click.option("--seed", default=1, show_default=True)
@click.option("--hours", default=24.0, show_default=True)
@click.option("--spot-price", default=0.33, show_default=True, help="Of a machine; on demand is 1.")
@click.option("--rate", "rates", multiple=True, type=float, default=(0.05, 0.1, 0.2), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, and write nothing.")
def main(
    machines: float, seed: int, hours: float, spot_price: float, rates: tuple[float, ...], as_json: bool
) -> None:
    """Simulate, print, and write docs/scale.md."""
    runs = sweep(machines, seed, hours, spot_price, rates)
    if as_json:
        click.echo(json.dumps([dict(zip(HEAD, row(run), strict=True)) for run in runs], indent=1))
        return
    table = Table(*HEAD)
    for run in runs:
        table.add_row(*row(run))
    Console(width=160).print(table)
    draw(runs, PLOT)
    about = (
        f"{hours:g} hours at a mean of {machines:g} busy machines (at most {runs[0].bill.most} at once), "
        f"5 % of the work interactive;\nspot at {spot_price:g} of the on-demand price; seed {seed}."
    )
    report.replace_section("spot", f"{about}\n\n{markdown(runs)}\n", PAGE)


def row(run: Run) -> list[str]:
    bill = run.bill
    waits = {lane: sorted(bill.waits[lane]) or [0.0] for lane in Lane}
    late = {lane: values[int(0.99 * (len(values) - 1))] for lane, values in waits.items()}
    return [
        run.plan,
        f"{100 * run.rate:g} %",
        "few" if run.scarce else "enough" if run.rate else "none",
        f"{100 * run.ratio:.1f} %",
        f"{100 * bill.met(Lane.BATCH):.2f} %",
        f"{100 * bill.met(Lane.INTERACTIVE):.2f} %",
        f"{late[Lane.INTERACTIVE]:.1f} s",
        f"{late[Lane.BATCH] / 60:.0f} min",
        f"{bill.interruptions} / {bill.kills}",
        f"{bill.wasted}",
        f"{bill.wasted_s:.0f} s of {bill.worked_s / 3600:.0f} h",
    ]


def markdown(runs: list[Run]) -> str:
    lines = [f"| {' | '.join(HEAD)} |", f"|{'---|' * len(HEAD)}"]
    lines += [f"| {' | '.join(row(run))} |" for run in runs]
    return "\n".join([*lines, "", f"![cost against deadlines met](plots/{PLOT.name})"])


def draw(runs: list[Run], plot: Path) -> None:
    """Cost against deadlines met, a line for each plan over the rates."""
    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name in dict.fromkeys(run.plan for run in runs):
        usual = [run for run in runs if run.plan == name and not run.scarce]
        few = [run for run in runs if run.plan == name and run.scarce]
        (line,) = axes.plot(
            [100 * run.ratio for run in usual], [100 * run.met for run in usual], marker="o", label=name
        )
        axes.scatter(
            [100 * run.ratio for run in few],
            [100 * run.met for run in few],
            marker="x",
            color=line.get_color(),
            label=f"{name}, few spot machines",
        )
    axes.axhline(99, color="0.7", linewidth=1, linestyle="--")
    axes.axvline(45, color="0.7", linewidth=1, linestyle="--")
    axes.set_xlabel("cost, % of on demand only")
    axes.set_ylabel("jobs in time, %, of the worse lane")
    axes.legend(fontsize="small")
    plot.parent.mkdir(exist_ok=True)
    figure.savefig(plot, metadata={"Date": None})
    pyplot.close(figure)


if __name__ == "__main__":
    main()
