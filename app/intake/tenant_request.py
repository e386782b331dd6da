"""The bodies of `/v1/tenants` and `/v1/keys`, and how tenants, keys and the audit log are shown."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from app.db.keys import KeyRow
from app.db.tenants import COLUMNS
from app.domain.scopes import SCOPES, Scope
from app.errors import FieldError, Invalid
from app.intake.shapes import Moment, Part, Text, invalid, read_as
from app.intake.view import moment
from app.intake.webhook_request import DEFAULT_GRACE_S, Rotation

NAME = r"^[a-z0-9][a-z0-9_-]{0,62}$"
MOST_REQUESTS = 1_000_000
_MOST = 2**53 - 1
_A_NAME = "must be 1 to 63 of a-z, 0-9, - and _, and begin with a letter or digit"

Requests = Annotated[int, Field(ge=0, le=MOST_REQUESTS)]
Count = Annotated[int, Field(ge=0, le=_MOST)]


def _unique(scopes: list[Scope]) -> list[Scope]:
    if len(set(scopes)) < len(scopes):
        raise PydanticCustomError("duplicate", "must name each scope once")
    return scopes


def _checked_name(name: str) -> str:
    if not re.fullmatch(NAME, name):
        raise PydanticCustomError("bad_format", _A_NAME)
    return name


class _Limits(Part):
    """A limit that is null is the server's default; 0 is no limit."""

    requests_per_minute: Requests | None = Field(None, description="Of all its keys, in any 60 seconds.")
    key_requests_per_minute: Requests | None = Field(None, description="Of each key, in any 60 seconds.")
    queued_jobs: Count | None = Field(None, description="Jobs that wait.")
    in_flight_jobs: Count | None = Field(None, description="Jobs that have not ended.")
    stored_bytes: Count | None = Field(None, description="What its files take together.")


class TenantRequest(_Limits):
    """A tenant, and what it may have. A limit that is null or absent is the server's default; 0 is none."""

    id: Annotated[str, AfterValidator(_checked_name), WithJsonSchema({"type": "string", "pattern": NAME})] = (
        Field(description="Its name, for good.")
    )
    weight: int = Field(1, ge=1, le=1000, description="Its share of the batch lane, against others'.")


class TenantChange(_Limits):
    """What is to be changed; at least one member. A limit that is null is the server's default again."""

    weight: int = Field(1, ge=1, le=1000, description="Its share of the batch lane, against others'.")
    disabled: bool = Field(default=False, description="True: none of its keys works. What it has goes on.")


class KeyRequest(Part):
    """What a new key is for, and what it may do. A member that is null counts as absent."""

    name: Annotated[Text, Field(max_length=256)] | None = Field(None, description="What it is for.")
    scopes: (
        Annotated[
            list[Scope],
            Field(min_length=1, max_length=len(SCOPES), json_schema_extra={"uniqueItems": True}),
            AfterValidator(_unique),
        ]
        | None
    ) = Field(None, description="All but `admin` if absent.")
    expires_at: Moment | None = Field(
        None, description="When it stops working, still to come; never if absent."
    )
    requests_per_minute: Requests | None = Field(None, description="Its tenant's limit if absent; 0: none.")


class KeyRotation(Rotation):
    """For how long the old key goes on working beside the new one, and when the new one ends."""

    expires_at: Moment | None = Field(
        None,
        description="When the new one stops working, which is still to come. If absent it lives as long as"
        " the old one was to live, from its making to its end, or has no end as that one has none. Needed if"
        " the old one was rotated before.",
    )


def check_name(name: str) -> None:
    """Raises `Invalid` for what can't be the name of a new tenant."""
    if not re.fullmatch(NAME, name):
        raise Invalid(
            "invalid_request",
            f"{name!r} can't be a tenant's name: it {_A_NAME}",
        )


def read_tenant(body: Any) -> tuple[str, dict[str, int | None]]:
    """The new tenant's name, and what was said of it. Raises `Invalid` naming each wrong place."""
    values = read_as(TenantRequest, body).model_dump(exclude_unset=True)
    return values.pop("id"), values


def read_change(body: Any) -> dict[str, int | bool | None]:
    """The columns to set. Raises `Invalid` naming each wrong place, or if there is nothing to change."""
    values = read_as(TenantChange, body).model_dump(exclude_unset=True)
    if not values:
        members = ", ".join((*COLUMNS, "disabled"))
        raise invalid([FieldError("", "required", f"must have at least one of {members}")])
    return values


def read_key(body: Any, now: datetime) -> KeyRequest:
    """The key to be made. Raises `Invalid` naming each wrong place."""
    asked = read_as(KeyRequest, body)
    _to_come(asked.expires_at, now)
    return asked


def read_rotation(body: Any, now: datetime) -> tuple[int, datetime | None]:
    """The grace period in seconds, and the new key's end if one is given. Raises `Invalid`."""
    asked = read_as(KeyRotation, body)
    _to_come(asked.expires_at, now)
    grace_s = asked.grace_period_seconds
    return DEFAULT_GRACE_S if grace_s is None else grace_s, asked.expires_at


def _to_come(expires_at: datetime | None, now: datetime) -> None:
    if expires_at is not None and expires_at <= now:
        raise invalid([FieldError("/expires_at", "out_of_range", "must be in the future")])


def show_tenant(row: Mapping[str, Any]) -> dict[str, Any]:
    """A tenant as answered."""
    return {
        "id": row["name"],
        "object": "tenant",
        **{name: row[name] for name in COLUMNS},
        "disabled_at": moment(row["disabled_at"]),
        "created_at": moment(row["created_at"]),
    }


def show_key(row: KeyRow) -> dict[str, Any]:
    """A key as answered, without its secret."""
    return {
        "id": row.id,
        "object": "api_key",
        "tenant": row.tenant,
        "name": row.name,
        "scopes": list(row.scopes),
        "live": row.live,
        "requests_per_minute": row.requests_per_minute,
        "created_at": moment(row.created_at),
        "expires_at": moment(row.expires_at),
        "revoked_at": moment(row.revoked_at),
        "last_used_at": moment(row.last_used_at),
    }


def show_line(row: Mapping[str, Any]) -> dict[str, Any]:
    """A line of the audit log as answered."""
    return {
        "id": str(row["id"]),
        "object": "audit_line",
        "at": moment(row["at"]),
        "actor": row["actor"],
        "action": row["action"],
        "subject": row["subject"],
        "details": row["details"],
    }
