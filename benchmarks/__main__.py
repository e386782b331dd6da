"""`python -m benchmarks [SUBJECT]… [--long] [--json]`."""

import json
from collections.abc import Callable
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from benchmarks import (
    backlog,
    bulk,
    burst,
    bystanders,
    engines,
    fairness,
    idle_latency,
    many,
    memory,
    planning,
    preloaded,
    queue_sql,
    servers,
    single_jobs,
    webhooks,
)
from benchmarks.figures import Measured
from benchmarks.stack import running

SUBJECTS: dict[str, Callable[..., Measured]] = {
    "idle_latency": idle_latency.run,
    "single_jobs": single_jobs.run,
    "servers": servers.run,
    "backlog": backlog.run,
    "engines": engines.run,
    "planning": planning.run,
    "queue_sql": queue_sql.run,
    "preloaded": preloaded.run,
    "webhooks": webhooks.run,
    "bystanders": bystanders.run,
    "fairness": fairness.run,
    "burst": burst.run,
    "burst_apart": burst.run_apart,
    "bulk": bulk.run,
    "memory": memory.run,
    "many": many.run,
}
LONG: dict[str, dict[str, Any]] = {
    "single_jobs": {"seconds": 60.0},
    "queue_sql": {"long": 1_000_000, "rounds": 100},
    "preloaded": {"count": 200_000},
    "burst": {"seconds": 60.0, "limit_s": 30.0},
    "burst_apart": {"seconds": 60.0},
    "bystanders": {"count": 600, "rounds": 24},
    "many": {"size": many.LARGE, "seconds": 60.0},
}
"""What the long form of a subject is run with."""


@click.command()
@click.argument("subjects", nargs=-1, type=click.Choice(sorted(SUBJECTS)))
@click.option(
    "--long", is_flag=True, help="Minutes instead of seconds for each subject that has a long form."
)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(subjects: tuple[str, ...], long: bool, as_json: bool) -> None:
    """Measure a stack of its own; each subject beside its baseline, in one run."""
    figures = []
    with running() as stack:
        for name in subjects or SUBJECTS:
            click.echo(f"measuring {name}…", err=True)
            figures += SUBJECTS[name](stack, **(LONG.get(name, {}) if long else {}))
    if as_json:
        click.echo(json.dumps([figure.as_json() for figure in figures]))
        return
    table = Table("subject", "figure", "value", "against the baseline")
    for figure in figures:
        table.add_row(*figure.as_row())
    Console().print(table)


if __name__ == "__main__":
    main()
