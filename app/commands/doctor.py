"""`headracectl doctor`: prove the conservation law on a live database."""

import json
import sys
from dataclasses import asdict

import click

from app.commands.common import as_json, operator_command
from app.db import conservation
from app.db.engine import make_engine
from app.settings import Settings


@click.command()
@as_json
@operator_command
def doctor(settings: Settings, as_json: bool) -> None:
    """Check that every job and every webhook delivery is in exactly one place, and every batch's counts."""
    report = conservation.check(make_engine(settings.database_url))
    if as_json:
        click.echo(json.dumps({"ok": not report.violations, **asdict(report)}))
    else:
        counts = ", ".join(f"{count} {name}" for name, count in report.counts.items())
        click.echo(f"{counts}")
        for violation in report.violations:
            click.echo(f"{violation.id}: {violation.problem} {list(violation.places)}", err=True)
        verdict = "every job and delivery is in exactly one place, and every batch's counts are right"
        click.echo(f"{len(report.violations)} violations" if report.violations else f"ok: {verdict}")
    sys.exit(1 if report.violations else 0)
