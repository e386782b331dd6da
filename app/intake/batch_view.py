"""A batch as clients see it, in OpenAI's shape with more members: in answers and webhooks alike.

Times are Unix seconds. All counts of one answer are of one instant.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from app.domain.batch_states import ENDED, BatchStatus
from app.domain.ids import format_id
from app.intake.file_view import FILE
from app.intake.view import BATCH

_MOMENTS = (
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "expired_at",
    "cancelling_at",
    "cancelled_at",
)
_RUNNING = frozenset({BatchStatus.IN_PROGRESS, BatchStatus.CANCELLING})


def first_batch(row: Any, base_url: str) -> dict[str, Any]:
    """The batch as its first answer showed it, whatever became of it since."""
    name = format_id(BATCH, row.id)
    here = f"{base_url}/v1/batches/{name}"
    return {
        "id": name,
        "object": "batch",
        "endpoint": row.endpoint,
        "errors": None,
        "input_file_id": "" if row.retry_of else _file(row.input_file_id),
        "completion_window": row.completion_window,
        "status": BatchStatus.VALIDATING.value,
        "output_file_id": None,
        "error_file_id": None,
        "created_at": _seconds(row.created_at),
        **dict.fromkeys(_MOMENTS),
        "expires_at": _seconds(row.expires_at),
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": row.metadata,
        "counts": dict.fromkeys(("queued", "running", "succeeded", "errored", "canceled", "expired"), 0),
        "progress": {"fraction": 0.0, "rate_per_s": None, "eta_s": None},
        "on_invalid": row.on_invalid,
        "invalid": 0,
        "dry_run": row.dry_run,
        "estimate": None,
        "retry_of": format_id(BATCH, row.retry_of) if row.retry_of else None,
        "urls": {
            "get": here,
            "cancel": f"{here}/cancel",
            "retry": f"{here}/retry",
            "results": f"{here}/results",
        },
    }


def batch(row: Any, base_url: str) -> dict[str, Any]:
    """The batch as it is. `row` is as `app.db.batches.get` gives it."""
    shown = first_batch(row, base_url)
    # OpenAI's type has no null here. A retry has no input until the clerk has gathered it.
    shown["input_file_id"] = _file(row.input_file_id) or ""
    shown["status"] = row.status
    shown["errors"] = _errors(row.errors)
    shown["output_file_id"] = _file(row.output_file_id)
    shown["error_file_id"] = _file(row.error_file_id)
    for name in _MOMENTS:
        shown[name] = _seconds(getattr(row, name))
    shown["counts"] = counts = _counts(row)
    failed = counts["errored"] + counts["canceled"] + counts["expired"]
    shown["request_counts"] = {
        "total": sum(counts.values()),
        "completed": counts["succeeded"],
        "failed": failed,
    }
    shown["progress"] = _progress(row, counts["succeeded"] + failed, counts["queued"] + counts["running"])
    shown["invalid"] = row.invalid
    shown["estimate"] = row.estimate
    return shown


def _counts(row: Any) -> dict[str, int]:
    """Of jobs; they sum up to the total. None before the file is validated, nor if nothing is to be run."""
    ended = row.succeeded + row.failed + row.canceled + row.expired
    total = 0 if row.dry_run else row.total or 0
    return {
        "queued": total - ended - row.running,
        "running": row.running,
        "succeeded": row.succeeded,
        "errored": row.failed,
        "canceled": row.canceled,
        "expired": row.expired,
    }


def _progress(row: Any, ended: int, left: int) -> dict[str, float | None]:
    if row.status in ENDED:
        return {"fraction": 1.0, "rate_per_s": None, "eta_s": None}
    fraction = round(ended / (ended + left), 6) if ended + left else 0.0
    rate = row.recent / max(row.recent_s, 1.0) if row.status in _RUNNING and row.recent_s else 0.0
    return {
        "fraction": fraction,
        "rate_per_s": round(rate, 3) if rate else None,
        "eta_s": round(left / rate, 1) if rate else None,
    }


def _errors(found: list[dict[str, Any]] | None) -> dict[str, Any] | None:
    if not found:
        return None
    # What is wrong with the file itself is kept under line 0, and has no line.
    return {"object": "list", "data": [{**error, "line": error["line"] or None} for error in found]}


def _file(file_id: UUID | None) -> str | None:
    return format_id(FILE, file_id) if file_id else None


def _seconds(moment: datetime | None) -> int | None:
    return None if moment is None else int(moment.timestamp())
