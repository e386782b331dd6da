"""`/v1/models`: what can be run, in OpenAI's shape with our members added."""

from itertools import groupby
from typing import Any

from flask import Blueprint, Response

from app.api import parameters as p
from app.api.answers import json_answer
from app.api.operation import Answer, Operation, route
from app.api.schemas import Model, ModelList
from app.api.services import services
from app.db import models as sql
from app.domain.model import ModelVersion
from app.errors import NotFound
from app.intake.authenticate import Principal
from app.intake.catalogue import describe

OWNER = "headrace"

blueprint = Blueprint("models", __name__)


@route(
    blueprint,
    Operation(
        "listModels",
        "GET",
        "/v1/models",
        "models",
        "List models",
        "Each with its current version and the schemas of its input and output.",
        answers={200: Answer("Every model.", ModelList)},
    ),
)
def list_all(_principal: Principal) -> Response:
    """Every model with its current version."""
    data = [_shown(name, current, versions) for name, current, versions in _models()]
    return json_answer({"object": "list", "data": data})


@route(
    blueprint,
    Operation(
        "getModel",
        "GET",
        "/v1/models/<model>",
        "models",
        "Get a model",
        parameters=(p.MODEL,),
        answers={200: Answer("The model.", Model)},
        errors=("model_not_found",),
    ),
)
def get(_principal: Principal, model: str) -> Response:
    """One model, at its current or at the named version."""
    name, at, version = model.partition("@")
    for known, current, versions in _models():
        if known == name:
            wanted = next((v for v in versions if v[0].spec.version == version), None) if at else current
            if wanted is not None:
                return json_answer(_shown(model, wanted, versions))
    raise NotFound("model_not_found", "there is no such model")


Registered = tuple[ModelVersion, Any]


def _models() -> list[tuple[str, Registered, list[Registered]]]:
    found = []
    for name, group in groupby(sql.list_all(services().engine), lambda entry: entry[0].spec.name):
        versions = list(group)
        found.append((name, next(entry for entry in versions if entry[1].current), versions))
    return found


def _shown(model_id: str, entry: Registered, versions: list[Registered]) -> dict[str, Any]:
    version, row = entry
    return {
        "id": model_id,
        "object": "model",
        "created": int(row.created_at.timestamp()),
        "owned_by": OWNER,
        "versions": [known.spec.version for known, _ in versions],
        **describe(version),
    }
