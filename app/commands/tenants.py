"""`headracectl tenants`: weights and limits."""

from typing import Any

import click

from app.commands.common import actor, as_json, operator_command, show
from app.db import tenants as sql
from app.db.engine import make_engine
from app.errors import Conflict, NotFound
from app.intake.tenant_request import check_name
from app.settings import Settings

# A window holds an entry for each request.
_MOST = {name: 1_000_001 if "requests" in name else 2**62 for name in sql.LIMITS}


class _Limit(click.ParamType):
    """`NAME=N`, or `NAME=default`."""

    name = "NAME=N|default"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int | None]:
        name, _, text = str(value).partition("=")
        if name not in sql.LIMITS:
            self.fail(f"{name!r} is no limit; limits are {', '.join(sql.LIMITS)}", param, ctx)
        if text == "default":
            return name, None
        if not (text.isascii() and text.isdecimal()) or int(text) >= _MOST[name]:
            self.fail(
                f"{name} must be a whole number below {_MOST[name]} (0: no limit), or `default`", param, ctx
            )
        return name, int(text)


@click.group()
def tenants() -> None:
    """Who shares this system, by which weights and within which limits."""


@tenants.command()
@click.argument("name")
@operator_command
def create(settings: Settings, name: str) -> None:
    """Make a tenant with the default limits. It needs a key next: `headracectl keys create`."""
    check_name(name)
    engine = make_engine(settings.database_url)
    if sql.create(engine, name, actor=actor()) is None:
        raise Conflict("tenant_exists", f"there is a tenant {name} already")
    click.echo(f"made {name}")


@tenants.command("list")
@as_json
@operator_command
def list_tenants(settings: Settings, as_json: bool) -> None:
    """Show every tenant. `-` is the server's default, 0 no limit."""
    rows = sql.list_all(make_engine(settings.database_url))
    show(rows, ["name", *sql.COLUMNS], as_json=as_json)


@tenants.command("set")
@click.argument("name")
@click.option("--weight", type=click.IntRange(1, 1000), help="Its share of the workers, against others'.")
@click.option("--limit", "limits", type=_Limit(), multiple=True, help=f"Repeatable: {', '.join(sql.LIMITS)}.")
@click.option("--disabled/--enabled", default=None, help="Disabled, none of its keys works.")
@operator_command
def set_values(
    settings: Settings,
    name: str,
    weight: int | None,
    limits: tuple[tuple[str, int | None], ...],
    disabled: bool | None,
) -> None:
    """Change what is given, as in `--weight 3 --limit queued_jobs=5000`. Processes see it within seconds."""
    values: dict[str, int | bool | None] = dict(limits) | ({"weight": weight} if weight else {})
    if disabled is not None:
        values["disabled"] = disabled
    if not values:
        raise click.UsageError("say what to change: --weight, --limit or --disabled")
    engine = make_engine(settings.database_url)
    if sql.change(engine, name, values, actor=actor()) is None:
        raise NotFound("tenant_not_found", f"there is no tenant {name}")
    click.echo(f"changed {name}")
