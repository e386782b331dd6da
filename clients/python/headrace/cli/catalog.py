"""`headrace models` and `headrace workers`."""

import click

from headrace.cli import output
from headrace.cli.params import json_option
from headrace.cli.session import Session, pass_session


@click.command()
@json_option
@pass_session
def models(session: Session, as_json: bool) -> None:
    """List the models that jobs can name."""
    found = session.client.models.list()
    if as_json:
        output.document([model.raw for model in found])
        return
    output.table(["MODEL", "VERSION", "DESCRIPTION"], [(m.id, m.version, m.description) for m in found])


@click.command()
@json_option
@pass_session
def workers(session: Session, as_json: bool) -> None:
    """List the workers (needs a key with the admin scope)."""
    found = session.client.workers.list()
    if as_json:
        output.document([worker.raw for worker in found])
        return
    output.table(
        ["WORKER", "POOL", "PURCHASE", "STATE", "MODEL", "HEARTBEAT"],
        [(w.name, w.pool, w.purchase, w.state, w.model, output.ago(w.heartbeat_at)) for w in found],
    )
