"""`headracectl models`: register model classes, list and show what is registered."""

import json
import traceback
from dataclasses import asdict
from typing import Any

import click

from app.commands.common import actor, as_json, operator_command, show
from app.commands.slots import slots
from app.commands.tune import tune
from app.db import models as sql
from app.db.engine import make_engine
from app.errors import Invalid, NotFound
from app.intake.registry import register_source
from app.settings import Settings


@click.group()
def models() -> None:
    """Models that workers can run."""


@models.command()
@click.argument("source", metavar="FILE:CLASS")
@click.option("--replace", is_flag=True, help="Development only: put other code behind a known version.")
@click.option("--traceback", "whole", is_flag=True, help="If the module fails: the whole traceback, too.")
@as_json
@operator_command
def register(settings: Settings, source: str, replace: bool, whole: bool, as_json: bool) -> None:
    """Register a model class (FILE.py:CLASS or package.module:CLASS) and make its version the current one."""
    try:
        name, version = register_source(settings, source, replace=replace, actor=actor())
    except Invalid as error:
        if whole and error.__cause__:
            traceback.print_exception(error.__cause__)
        raise
    if as_json:
        click.echo(json.dumps({"model": name, "version": version}))
    else:
        click.echo(f"registered {name}@{version}")


@models.command("list")
@as_json
@operator_command
def list_models(settings: Settings, as_json: bool) -> None:
    """Show every registered version."""
    rows = [
        {
            "model": version.spec.name,
            "version": version.spec.version,
            "current": row.current,
            "device": version.spec.device.value,
            "max_batch_items": version.spec.max_batch_items,
            "variant": version.spec.variant,
            "source": version.spec.source,
            "created_at": row.created_at,
        }
        for version, row in sql.list_all(make_engine(settings.database_url))
    ]
    show(
        rows,
        ["model", "version", "current", "device", "variant", "max_batch_items", "source"],
        as_json=as_json,
    )


@models.command()
@click.argument("model", metavar="NAME@VERSION")
@operator_command
def use(settings: Settings, model: str) -> None:
    """Make a registered version the current one: requests that name no version get it from now on."""
    name, _, version = model.partition("@")
    engine = make_engine(settings.database_url)
    found = sql.find(engine, name, version or None)
    if found is None:
        raise NotFound("model_not_found", f"there is no model {model}")
    sql.make_current(engine, found, actor=actor())
    click.echo(f"{name} is {name}@{found.spec.version} from now on")


models.add_command(slots)
models.add_command(tune)


@models.command("show")
@click.argument("model", metavar="NAME[@VERSION]")
@as_json
@operator_command
def show_model(settings: Settings, model: str, as_json: bool) -> None:
    """Show one version: limits, batch knobs, input and output schemas."""
    name, _, version = model.partition("@")
    found = sql.find(make_engine(settings.database_url), name, version or None)
    if found is None:
        raise NotFound("model_not_found", f"there is no model {model}")
    values: dict[str, Any] = {**asdict(found.spec), "device": found.spec.device.value}
    if as_json:
        click.echo(json.dumps(values))
        return
    for key, value in values.items():
        text = json.dumps(value, indent=2) if isinstance(value, dict) else value
        click.echo(f"{key}: {text}")
