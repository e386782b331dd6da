"""The bodies of `/v1/webhooks`."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from app.domain.delivery import SUBSCRIBABLE
from app.domain.egress import EgressPolicy
from app.errors import FieldError
from app.intake.shapes import Moment, Part, Text, Url, invalid, read_as

MAX_DESCRIPTION = 256
MAX_GRACE_S = 604_800
DEFAULT_GRACE_S = 86_400

Subscription = Literal[
    "job.started",
    "job.completed",
    "batch.completed",
    "batch.failed",
    "batch.expired",
    "batch.cancelled",
    "endpoint.disabled",
]
DEFAULT_EVENTS: tuple[Subscription, ...] = ("job.completed",)


def _unique(events: list[Subscription]) -> list[Subscription]:
    if len(set(events)) < len(events):
        raise PydanticCustomError("duplicate", "must name each event once")
    return events


Events = Annotated[
    list[Subscription],
    Field(min_length=1, max_length=len(SUBSCRIBABLE), json_schema_extra={"uniqueItems": True}),
    AfterValidator(_unique),
]
Description = Annotated[Text, Field(max_length=MAX_DESCRIPTION)]


class EndpointRequest(Part):
    """A URL to call, and for what. A member that is null counts as absent."""

    url: Url = Field(description="https URL that is called. No credentials, no fragment, a public host.")
    events: Events | None = Field(None, description="What it is told of; `job.completed` alone if absent.")
    description: Description | None = Field(None, description="What it is for, in your words.")


class EndpointChange(Part):
    """What is to be changed; at least one member. One that is null counts as absent, and stays as it is."""

    url: Url | None = Field(None, description="What still waits to be sent goes there, too.")
    events: Events | None = None
    description: Description | None = None
    status: Literal["enabled", "disabled"] | None = Field(
        None,
        description="`disabled`: nothing is sent; what would have been can be recovered. `enabled`: a new"
        " start, with `disabled_reason` and `failing_since` cleared.",
    )


class Rotation(Part):
    """For how long the old secret goes on signing beside the new one."""

    grace_period_seconds: int | None = Field(
        DEFAULT_GRACE_S, ge=0, le=MAX_GRACE_S, description="0: the old one is dead at once."
    )


class RecoveryRequest(Part):
    """From when on."""

    since: Moment = Field(description="What was created then or later. Not in the future.")


class Nothing(Part):
    """An empty object."""


def read_endpoint(body: Any, policy: EgressPolicy) -> EndpointRequest:
    """The endpoint to be made. Raises `Invalid` naming each wrong place."""
    return read_as(EndpointRequest, body, policy)


def read_change(body: Any, policy: EgressPolicy) -> EndpointChange:
    """The change to be made. Raises `Invalid` naming each wrong place, or if there is nothing to change."""
    change = read_as(EndpointChange, body, policy)
    if change == EndpointChange():
        members = ", ".join(EndpointChange.model_fields)
        raise invalid([FieldError("", "required", f"must have at least one of {members}")])
    return change


def read_grace(body: Any) -> int:
    """The grace period of a rotation, in seconds. Raises `Invalid`."""
    asked = read_as(Rotation, body).grace_period_seconds
    return DEFAULT_GRACE_S if asked is None else asked
