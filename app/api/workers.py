"""`/v1/workers`: what runs the jobs. For operators: it names machines."""

from typing import Any

from flask import Blueprint, Response

from app.api.answers import json_answer
from app.api.operation import Answer, Operation, route
from app.api.schemas import WorkerList
from app.api.services import services
from app.db import workers as sql
from app.domain.ids import format_id
from app.intake.authenticate import Principal
from app.intake.view import WORKER, moment

blueprint = Blueprint("workers", __name__)


@route(
    blueprint,
    Operation(
        "listWorkers",
        "GET",
        "/v1/workers",
        "workers",
        "List workers",
        "Pool, purchase, state, what each runs now, its heartbeat, and the models it loaded or failed to.",
        scope="admin",
        answers={200: Answer("Every worker process.", WorkerList)},
    ),
)
def list_all(_principal: Principal) -> Response:
    """Every worker process heard of lately."""
    return json_answer({"object": "list", "data": [_shown(row) for row in sql.list_all(services().engine)]})


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": format_id(WORKER, row["id"]),
        "object": "worker",
        "name": row["name"],
        "host": row["host"],
        "pid": row["pid"],
        "pool": row["pool"],
        "purchase": row["purchase"],
        "device": row["device"],
        "queues": row["queues"],
        "state": row["state"],
        "model": f"{row['model']}@{row['version']}" if row["model"] else None,
        "batch_size": row["batch_size"],
        "models": row["models"],
        "started_at": moment(row["started_at"]),
        "heartbeat_at": moment(row["heartbeat_at"]),
    }
