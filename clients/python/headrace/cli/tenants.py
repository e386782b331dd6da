"""`headrace tenants`: who shares the system, by which weights and within which limits."""

from collections.abc import Callable
from typing import Any, cast

import click

from headrace.admin_records import Tenant
from headrace.cli import output
from headrace.cli.params import TENANT, Limit, json_option, limit_option
from headrace.cli.session import Session, pass_session
from headrace.types import TenantLimits

tenant_name = click.argument("tenant", metavar="TENANT", type=TENANT)
_LIMITS = TenantLimits.__annotations__
_Limits = tuple[tuple[str, int | None], ...]


def _values(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a tenant's weight and limits."""
    weight = click.option("--weight", metavar="N", type=int, help="Its share, against others'.")
    limits = click.option(
        "--limit",
        "limits",
        metavar="NAME=N|default",
        type=Limit(_LIMITS),
        multiple=True,
        help=f"0 is no limit. May be repeated: {', '.join(_LIMITS)}.",
    )
    return weight(limits(command))


@click.group()
def tenants() -> None:
    """Manage who shares the system (needs a key with the admin scope)."""


@tenants.command()
@tenant_name
@_values
@json_option
@pass_session
def create(session: Session, tenant: str, weight: int | None, limits: _Limits, as_json: bool) -> None:
    """Make a tenant. It needs a key next: headrace keys create TENANT."""
    output.details(session.client.tenants.create(tenant, weight=weight, **_named(limits)), as_json)


@tenants.command("list")
@click.option("--after", metavar="TENANT", help="Go on after this tenant.")
@limit_option
@json_option
@pass_session
def list_(session: Session, after: str | None, limit: int, as_json: bool) -> None:
    """List tenants, newest first. Of limits, - is the server's default and 0 is none."""
    output.listing(
        session.client.tenants.list(after=after, limit=limit),
        limit,
        as_json,
        ["ID", "STATUS", "WEIGHT", "REQ/MIN", "PER KEY", "QUEUED", "IN FLIGHT", "STORED", "CREATED"],
        _row,
    )


@tenants.command()
@tenant_name
@json_option
@pass_session
def show(session: Session, tenant: str, as_json: bool) -> None:
    """Show a tenant. A limit that is not there is the server's default."""
    output.details(session.client.tenants.get(tenant), as_json)


@tenants.command()
@tenant_name
@_values
@json_option
@pass_session
def update(session: Session, tenant: str, weight: int | None, limits: _Limits, as_json: bool) -> None:
    """Change what is given, and nothing else."""
    if weight is None and not limits:
        raise click.UsageError("give what to change: --weight, --limit")
    output.details(session.client.tenants.update(tenant, weight=weight, **_named(limits)), as_json)


@tenants.command()
@tenant_name
@json_option
@pass_session
def disable(session: Session, tenant: str, as_json: bool) -> None:
    """Let none of its keys work. What was accepted goes on."""
    _tell(session.client.tenants.disable(tenant), as_json)


@tenants.command()
@tenant_name
@json_option
@pass_session
def enable(session: Session, tenant: str, as_json: bool) -> None:
    """Let its keys work again."""
    _tell(session.client.tenants.enable(tenant), as_json)


def _named(limits: _Limits) -> TenantLimits:
    return cast(TenantLimits, dict(limits))


def _tell(changed: Tenant, as_json: bool) -> None:
    if as_json:
        output.document(changed.raw)
    else:
        click.echo(f"{output.clean(changed.id)} {_status(changed)}")


def _row(tenant: Tenant) -> tuple[str | None, ...]:
    limits = (tenant.raw.get(name) for name in _LIMITS)
    shown = (None if limit is None else str(limit) for limit in limits)
    return tenant.id, _status(tenant), str(tenant.weight), *shown, output.ago(tenant.created_at)


def _status(tenant: Tenant) -> str:
    return "disabled" if tenant.disabled else "enabled"
