"""The OpenAPI 3.1 document, made from what is served: a view that is not registered is not in it."""

import re
from collections.abc import Iterable
from typing import Any

from flask import Flask
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app import __version__
from app.api import schemas
from app.api.catalogue_of_errors import CODES
from app.api.operation import Answer, Operation, Parameter, operation_of
from app.api.parameters import HEADERS
from app.api.problems import PROBLEM
from app.domain.scopes import SCOPES

_ABOUT = """Submit a job, get its id at once; then poll, wait, follow its events, or be called back.

Every error is `application/problem+json`; its `code` is stable ([all codes](/docs/errors)).
Every answer has `X-Request-Id`."""
_TAGS = ("jobs", "batches", "files", "webhooks", "embeddings", "models", "workers", "tenants", "operations")
_REF = "#/components/schemas/{model}"


def document(app: Flask) -> dict[str, Any]:
    """The document for every operation that `app` serves."""
    operations = [found for view in app.view_functions.values() if (found := operation_of(view))]
    operations.sort(key=lambda one: (one.path, one.method))
    paths: dict[str, Any] = {}
    for one in operations:
        path = re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", one.path)
        paths.setdefault(path, {})[one.method.lower()] = _operation(one)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Headrace",
            "version": __version__,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": name} for name in sorted({one.tag for one in operations}, key=_TAGS.index)],
        "paths": paths,
        "components": {
            "schemas": _schemas(operations),
            "headers": {
                name: {"description": text, "schema": {"type": "string"}} for name, text in HEADERS.items()
            },
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "hr_<keyid>_<secret>",
                    "description": f"An API key. Scopes: {', '.join(SCOPES)}.",
                }
            },
        },
    }


def _operation(one: Operation) -> dict[str, Any]:
    scope = f"\n\nScope: `{one.scope}`." if one.scope else ""
    described: dict[str, Any] = {
        "operationId": one.id,
        "tags": [one.tag],
        "summary": one.summary,
        "description": one.description + scope,
        "security": [{"key": []}] if one.key else [],
        "parameters": [_parameter(each) for each in one.parameters],
        "responses": {
            **{str(status): _answer(answer) for status, answer in one.answers.items()},
            **_problems(one.all_errors),
        },
    }
    if one.body:
        described["requestBody"] = {
            "required": one.body_required,
            "content": _content(one.body_media, one.body),
        }
    return described


def _parameter(one: Parameter) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": one.where,
        "required": one.where == "path",
        "description": one.description,
        "schema": dict(one.schema),
        **one.style,
    }


def _answer(one: Answer) -> dict[str, Any]:
    described: dict[str, Any] = {
        "description": one.description,
        "headers": _headers(("X-Request-Id", *one.headers)),
    }
    if one.media:
        described["content"] = _content(one.media, one.model)
    return described


def _problems(codes: Iterable[str]) -> dict[str, Any]:
    by_status: dict[int, list[str]] = {}
    for code in dict.fromkeys(codes):
        by_status.setdefault(CODES[code].status, []).append(code)
    described = {}
    for status, names in sorted(by_status.items()):
        headers = ["X-Request-Id"]
        headers += ["WWW-Authenticate"] if status == 401 else []
        headers += ["Retry-After"] if status in (409, 429, 503) else []
        described[str(status)] = {
            "description": "\n".join(f"- `{name}`: {CODES[name].meaning}" for name in names),
            "headers": _headers(headers),
            "content": _content(PROBLEM, schemas.Problem),
        }
    return described


def _headers(names: Iterable[str]) -> dict[str, Any]:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in names}


def _content(media: str, model: type[BaseModel] | None) -> dict[str, Any]:
    schema = {"$ref": _REF.format(model=model.__name__)} if model else {"type": "string"}
    return {media: {"schema": schema}}


def _schemas(operations: Iterable[Operation]) -> dict[str, Any]:
    bodies = {one.body for one in operations if one.body}
    answers = {answer.model for one in operations for answer in one.answers.values() if answer.model}
    answers.add(schemas.Problem)
    wanted: list[Any] = [(model, "validation") for model in bodies]
    wanted += [(model, "serialization") for model in answers]
    wanted.sort(key=lambda pair: pair[0].__name__)
    _, made = models_json_schema(wanted, ref_template=_REF)
    definitions: dict[str, Any] = made["$defs"]
    return dict(sorted(definitions.items()))
