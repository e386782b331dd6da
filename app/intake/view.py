"""A job as clients see it: in answers, events, batch lines and webhooks alike."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from app.domain.ids import format_id
from app.domain.lanes import Priority
from app.domain.states import JobStatus, Reason
from app.intake.accept import Fresh

JOB = "job"
WORKER = "worker"
BATCH = "batch"


def fresh_job(fresh: Fresh, base_url: str) -> dict[str, Any]:
    """The answer to an accepted request, without reading it back. Equal to `first_job` of its row."""
    job = fresh.job
    return _job(
        base_url,
        job,
        input=orjson.Fragment(job.input),
        unit=fresh.unit,
        created_at=fresh.created_at,
        expires_at=fresh.expires_at,
    )


def first_job(row: Any, base_url: str) -> dict[str, Any]:
    """The job as its first answer showed it, whatever became of it since."""
    return _job(
        base_url,
        row,
        input=row.input,
        unit=row.unit,
        created_at=row.created_at,
        expires_at=row.expires_at,
    )


def listed_job(row: Any, base_url: str) -> dict[str, Any]:
    """The job as a list shows it: `attempts` is null, because a list does not read them."""
    return {**job(row, base_url), "attempts": None}


def job(row: Any, base_url: str) -> dict[str, Any]:
    """The job as it is."""
    shown = first_job(row, base_url)
    shown["status"] = row.status
    shown["status_reason"] = row.reason
    shown["progress"] = _progress(row)
    shown["output"] = None if row.output is None else orjson.Fragment(row.output)
    shown["error"] = row.error
    shown["attempts"] = _attempts(row)
    shown["metrics"] = {
        "queue_time": _seconds(row.created_at, row.started_at),
        "run_time": _round(row.run_s),
        "total_time": _seconds(row.created_at, row.completed_at),
        "batch_size": row.batch_size,
    }
    shown["usage"] = {
        "units": row.units,
        "unit": row.unit,
        "device": row.device,
        "device_seconds": _round(row.device_s),
    }
    shown["batch_id"] = format_id(BATCH, row.batch_id) if row.batch_id else None
    shown["custom_id"] = row.custom_id
    shown["started_at"] = moment(row.started_at)
    shown["completed_at"] = moment(row.completed_at)
    shown["erased_at"] = moment(row.erased_at)
    return shown


def moment(value: datetime | None) -> str | None:
    """RFC 3339 in UTC, with `Z`."""
    return None if value is None else value.astimezone(UTC).isoformat()[:-6] + "Z"


def _job(
    base_url: str, asked: Any, *, input: Any, unit: str, created_at: datetime, expires_at: datetime
) -> dict[str, Any]:
    name = format_id(JOB, asked.id)
    here = f"{base_url}/v1/jobs/{name}"
    return {
        "id": name,
        "object": "job",
        "model": asked.model,
        "version": asked.version,
        "status": JobStatus.QUEUED.value,
        "status_reason": Reason.WAITING_FOR_WORKER.value,
        "queue_position": None,
        "eta_s": None,
        "progress": None,
        "input": input,
        "output": None,
        "error": None,
        "attempts": [],
        "metrics": {"queue_time": None, "run_time": None, "total_time": None, "batch_size": None},
        "usage": {"units": None, "unit": unit, "device": None, "device_seconds": None},
        "priority": Priority(asked.priority).label,
        "use_case": asked.use_case,
        "metadata": asked.metadata,
        "batch_id": None,
        "custom_id": None,
        "retry_of": format_id(JOB, asked.retry_of) if asked.retry_of else None,
        "created_at": moment(created_at),
        "started_at": None,
        "completed_at": None,
        "expires_at": moment(expires_at),
        "erased_at": None,
        "urls": {"get": here, "cancel": f"{here}/cancel", "events": f"{here}/events"},
    }


def _progress(row: Any) -> dict[str, Any] | None:
    if row.progress is None:
        return None
    return {"fraction": _round(row.progress), "message": row.progress_message}


def _attempts(row: Any) -> list[dict[str, Any]]:
    shown = []
    for attempt in row.attempts or ():
        shown.append(
            {
                **attempt,
                "worker_id": format_id(WORKER, UUID(attempt["worker_id"])),
                "started_at": moment(datetime.fromisoformat(attempt["started_at"])),
                "ended_at": moment(datetime.fromisoformat(attempt["ended_at"])),
                "device_seconds": _round(attempt["device_seconds"]),
            }
        )
    return shown


def _seconds(start: datetime | None, end: datetime | None) -> float | None:
    if start is None or end is None:
        return None
    return max(0.0, round((end - start).total_seconds(), 6))


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
