"""`python -m benchmarks [SUBJECT]… [--json]`."""

import json

import click
from rich.console import Console
from rich.table import Table

from benchmarks import (
    backlog,
    bulk,
    bystanders,
    idle_latency,
    memory,
    planning,
    queue_sql,
    single_jobs,
    webhooks,
)
from benchmarks.stack import running

SUBJECTS = {
    "idle_latency": idle_latency.run,
    "single_jobs": single_jobs.run,
    "backlog": backlog.run,
    "planning": planning.run,
    "queue_sql": queue_sql.run,
    "webhooks": webhooks.run,
    "bystanders": bystanders.run,
    "bulk": bulk.run,
    "memory": memory.run,
}


@click.command()
@click.argument("subjects", nargs=-1, type=click.Choice(sorted(SUBJECTS)))
@click.option("--json", "as_json", is_flag=True, help="For programs.")
def main(subjects: tuple[str, ...], as_json: bool) -> None:
    """Measure a stack of its own; each subject beside its baseline, in one run."""
    figures = []
    with running() as stack:
        for name in subjects or SUBJECTS:
            click.echo(f"measuring {name}…", err=True)
            figures += SUBJECTS[name](stack)
    if as_json:
        click.echo(json.dumps([figure.as_json() for figure in figures]))
        return
    table = Table("subject", "figure", "value", "against the baseline")
    for figure in figures:
        table.add_row(*figure.as_row())
    Console().print(table)


if __name__ == "__main__":
    main()
