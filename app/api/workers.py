"""`/v1/workers`: what runs the jobs. For operators: it names machines."""

from typing import Any

from flask import Blueprint, Response

from app.api import parameters as p
from app.api.answers import json_answer
from app.api.operation import Answer, Operation, route
from app.api.schemas import Worker, WorkerList
from app.api.services import services
from app.db import workers as sql
from app.domain.ids import InvalidId, format_id, parse_id
from app.errors import NotFound
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


@route(
    blueprint,
    Operation(
        "drainWorker",
        "POST",
        "/v1/workers/<worker_id>/drain",
        "workers",
        "Have a worker leave",
        "The whole worker that this process belongs to claims nothing more, ends its micro-batches, gives the"
        " rest back and ends. It hears of it within a heartbeat. Safe to repeat.",
        scope="admin",
        parameters=(p.WORKER_ID,),
        answers={200: Answer("The worker process.", Worker)},
        errors=("worker_not_found",),
    ),
)
def drain(principal: Principal, worker_id: str) -> Response:
    """Tell a worker to leave. One that is gone stays as it is."""
    engine = services().engine
    try:
        id = parse_id(WORKER, worker_id)
    except InvalidId:
        raise _not_found() from None
    sql.tell_to_drain(engine, worker_id=id, subject=worker_id, actor=f"key:{principal.key_id}")
    rows = sql.list_all(engine, id)
    if not rows:
        raise _not_found()
    return json_answer(_shown(rows[0]))


def _not_found() -> NotFound:
    return NotFound("worker_not_found", "there is no such worker")


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
        "drain_cause": row["drain_cause"],
        "drain_until": moment(row["drain_until"]),
        "model": f"{row['model']}@{row['version']}" if row["model"] else None,
        "batch_size": row["batch_size"],
        "models": row["models"],
        "started_at": moment(row["started_at"]),
        "heartbeat_at": moment(row["heartbeat_at"]),
    }
