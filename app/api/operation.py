"""An operation is a view and what the OpenAPI document says of it, stated in one place."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import structlog
from flask import Blueprint, Response, after_this_request, g, request
from pydantic import BaseModel

from app.api.services import services
from app.db.scope import work_for, work_for_operators
from app.domain.scopes import Scope
from app.intake.authenticate import Principal

View = Callable[..., Response]

_KEY_ERRORS = ("missing_api_key", "invalid_api_key", "too_many_requests")
_ANY_ERRORS = ("unavailable", "no_room", "internal_error")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter. `where` is `path`, `query` or `header`; `schema` is JSON Schema."""

    name: str
    where: str
    description: str
    schema: Mapping[str, Any] = field(default_factory=lambda: {"type": "string"})
    style: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """One successful answer. Without a model the body is what `media` says, of any shape."""

    description: str
    model: type[BaseModel] | None = None
    media: str = "application/json"
    headers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Operation:
    """What the document says of a view. `key`: needs an API key; `scope`: which it must have."""

    id: str
    method: str
    path: str
    tag: str
    summary: str
    description: str = ""
    key: bool = True
    scope: Scope | None = None
    parameters: tuple[Parameter, ...] = ()
    body: type[BaseModel] | None = None
    body_required: bool = True
    body_media: str = "application/json"
    answers: Mapping[int, Answer] = field(default_factory=dict)
    errors: tuple[str, ...] = ()

    @property
    def all_errors(self) -> tuple[str, ...]:
        """Every error code it may answer with."""
        key_errors = _KEY_ERRORS if self.key else ()
        scope_errors = ("missing_scope",) if self.scope else ()
        return (*key_errors, *scope_errors, *self.errors, *_ANY_ERRORS)


def route(blueprint: Blueprint, operation: Operation) -> Callable[[View], View]:
    """Serve an operation with this view; if it needs a key, the view's first argument is the principal."""

    def decorate(view: View) -> View:
        served = _guarded(view, operation.scope) if operation.key else view
        served = _described(served, operation)
        blueprint.add_url_rule(operation.path, operation.id, served, methods=[operation.method])
        return view

    return decorate


def operation_of(view: View) -> Operation | None:
    """The operation that a registered view serves."""
    return getattr(view, "operation", None)


def _guarded(view: View, scope: Scope | None) -> View:
    @wraps(view)
    def guarded(**path: str) -> Response:
        principal: Principal = services().authenticator.authenticate(request.headers.get("Authorization"))
        services().rates.admit(principal, _show_later)
        structlog.contextvars.bind_contextvars(tenant=principal.tenant, key_id=principal.key_id)
        if scope is not None:
            principal.require(scope)
        if scope == "admin":
            work_for_operators()
        else:
            work_for(principal.tenant_id)
        g.principal = principal
        return view(principal, **path)

    return guarded


def _show_later(headers: Mapping[str, str]) -> None:
    @after_this_request
    def show(response: Response) -> Response:
        response.headers.update(headers)
        return response


def _described(view: View, operation: Operation) -> View:
    @wraps(view)
    def described(**path: str) -> Response:
        return view(**path)

    described.operation = operation  # type: ignore[attr-defined]
    return described
