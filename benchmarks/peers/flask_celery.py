"""Flask and Celery glued together by hand: one task per job, its result in Redis, the client polls."""

import os

from celery import Celery
from celery.signals import worker_process_init
from flask import Flask, jsonify, request

from benchmarks.peers.model import Encoder

_redis = os.environ["BENCHMARK_REDIS_URL"]
celery = Celery("peer", broker=_redis, backend=_redis)
celery.conf.update(task_default_queue="peer", worker_hijack_root_logger=False)
application = Flask(__name__)
_encoder: list[Encoder] = []


@worker_process_init.connect
def _load(**_: object) -> None:
    _encoder.append(Encoder())


@celery.task(name="peer.embed")
def embed(text: str) -> list[float]:
    """One text, one forward pass."""
    return _encoder[0].encode([text])[0]


@celery.task(name="peer.null")
def null(value: object) -> object:
    """What the queue costs by itself."""
    return value


@application.post("/<name>")
def submit(name: str):
    """Answers with the task's id at once."""
    body = request.get_json()
    task = embed.delay(body["text"]) if name == "embed" else null.delay(body)
    return jsonify(id=task.id), 202


@application.get("/tasks/<task_id>")
def result(task_id: str):
    """The result, or 202."""
    task = celery.AsyncResult(task_id)
    if not task.ready():
        return jsonify(id=task_id), 202
    return jsonify(id=task_id, output=task.result)


@application.get("/ready")
def ready():
    """Whether the workers are up."""
    answers = celery.control.ping(timeout=1)
    return jsonify(workers=len(answers)), 200 if answers else 503
