"""What is sent: the same bytes at every try of a delivery, unless the job was erased meanwhile.

A batch is sent at its end, from where nothing of it changes.
"""

from typing import Any

import orjson

from app.db.deliveries import ClaimedDelivery
from app.domain.delivery import Event
from app.domain.states import JobStatus
from app.intake import batch_view, view

MOST_BYTES = 20_000
"""Of a whole body. Above it `data` keeps `_KEPT` only, and the receiver asks for the rest."""

_KEPT = (
    "id",
    "object",
    "status",
    "batch_id",
    "custom_id",
    "input_file_id",
    "output_file_id",
    "error_file_id",
    "retry_of",
    "urls",
)


def body(delivery: ClaimedDelivery, subject: Any | None, base_url: str) -> bytes | None:
    """The body as JSON. `subject` is the row of the delivery's job or batch.

    None for the body: that job or batch is no more.
    """
    if delivery.job_id is None and delivery.batch_id is None:
        return _body(delivery, delivery.payload)
    if subject is None:
        return None
    if delivery.batch_id is not None:
        return _short(delivery, batch_view.batch(subject, base_url))
    job = subject
    if delivery.event == Event.JOB_STARTED:
        data, held = _as_it_started(delivery, job, base_url), job.input_bytes
    else:
        data, held = view.job(job, base_url), job.input_bytes + job.output_bytes
    return _short(delivery, data, held)


def _short(delivery: ClaimedDelivery, data: dict[str, Any], held: int = 0) -> bytes:
    """The body, or what is kept of it. `held`: bytes that it has at least."""
    if held <= MOST_BYTES and len(whole := _body(delivery, data)) <= MOST_BYTES:
        return whole
    return _body(delivery, {name: data[name] for name in _KEPT if name in data})


def _body(delivery: ClaimedDelivery, data: dict[str, Any]) -> bytes:
    return orjson.dumps({"type": delivery.event, "timestamp": view.moment(delivery.created_at), "data": data})


def _as_it_started(delivery: ClaimedDelivery, job: Any, base_url: str) -> dict[str, Any]:
    """The job at its start, whatever became of it by the time this is sent."""
    return {
        **view.first_job(job, base_url),
        "status": JobStatus.RUNNING.value,
        "status_reason": None,
        "started_at": view.moment(delivery.created_at),
    }
