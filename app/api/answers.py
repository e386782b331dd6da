"""The answers that several nouns share: JSON, lists, and a job that was just accepted."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
from flask import Response, g, request
from werkzeug.datastructures import Headers

from app.api.prefer import wait_seconds
from app.api.services import services
from app.broker.wakeups import Waiter
from app.db.accept import knows
from app.domain.lanes import Device, Lane
from app.domain.states import TERMINAL
from app.errors import TooMany
from app.intake import view
from app.intake.accept import Fresh, Prepared, Replayed
from app.intake.authenticate import Principal
from app.intake.idempotency import Once
from app.intake.wait import until_finished, watching
from app.observability import metrics
from app.settings import Files

NO_LIMIT_BYTES = 2**62
POLL_AGAIN_S = "1"
_REPLAYED = {"Idempotent-Replayed": "true"}


class _Json(Response):
    """A whole body, and headers that are sent as they are: Werkzeug would parse our own URLs once more."""

    def get_wsgi_headers(self, environ: Any) -> Headers:  # noqa: ARG002 - Werkzeug's signature
        return self.headers


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as JSON."""
    answer = _Json(orjson.dumps(body), status, mimetype="application/json")
    if headers:
        answer.headers.extend(dict(headers))
    return answer


def list_answer(data: Sequence[Mapping[str, Any]], *, has_more: bool) -> Response:
    """A page in OpenAI's list shape."""
    return json_answer(
        {
            "object": "list",
            "data": data,
            "first_id": data[0]["id"] if data else None,
            "last_id": data[-1]["id"] if data else None,
            "has_more": has_more,
        }
    )


def base_url() -> str:
    """How clients reach this server: as configured, else as this one did."""
    return services().settings.api.public_url or f"{request.scheme}://{request.host}"


def admit(
    principal: Principal, lane: Lane, jobs: int, key: Once | None = None, device: Device | None = None
) -> None:
    """Raise `TooMany` or `Overloaded` unless there is room for these jobs, or `key` made them before."""
    parts = services()
    try:
        parts.quotas.admit(principal, jobs)
        parts.pressure.admit(lane, device, jobs)
    except TooMany as error:
        if key is not None and knows(parts.engine, principal.tenant_id, key):
            return
        metrics.LIMITS_REFUSED.labels(error.violated[0] if error.violated else "wait").inc()
        raise


def file_limits(principal: Principal) -> Files:
    """What this tenant's files may take."""
    limits, own = services().settings.files, principal.limits.stored_bytes
    return limits if own is None else limits.model_copy(update={"quota_bytes": own or NO_LIMIT_BYTES})


def wanted_wait() -> int | None:
    """What `Prefer: wait` asks for. Raises `Malformed`; so ask before anything is written."""
    return wait_seconds(request.headers.getlist("Prefer"), services().settings.api.max_wait_s)


def accepted(principal: Principal, prepared: Prepared, key: Once | None, wait_s: int | None) -> Response:
    """Write the job and answer: 202 with it; after a wait, the job as it is then, and 200 if it ended."""
    parts = services()
    admit(principal, Lane.INTERACTIVE, 1, key, prepared.version.spec.device)
    if wait_s is None:
        written = parts.intake.write(prepared, key)
        if isinstance(written, Fresh):
            return _accepted(view.fresh_job(written, base_url()), {})
        return _accepted(view.first_job(written.row, base_url()), _REPLAYED)
    with watching(parts.wakeups, prepared.job.id) as waiter:
        written = parts.intake.write(prepared, key)
        if isinstance(written, Fresh):
            row, headers = _hold(principal, prepared.job.id, waiter, wait_s, look_first=False)
    if isinstance(written, Replayed):
        row, headers = hold(principal, written.row.id, wait_s)
        headers |= _REPLAYED
    shown = view.job(row, base_url())
    if row.status in TERMINAL:
        return json_answer(shown, 200, headers | {"Location": shown["urls"]["get"]})
    return _accepted(shown, headers)


def hold(principal: Principal, job_id: UUID, wait_s: int) -> tuple[Any, dict[str, str]]:
    """Wait for the job's end. Returns its row, and the header that says it was waited for."""
    with watching(services().wakeups, job_id) as waiter:
        return _hold(principal, job_id, waiter, wait_s)


def _hold(
    principal: Principal, job_id: UUID, waiter: Waiter | None, wait_s: int, *, look_first: bool = True
) -> tuple[Any, dict[str, str]]:
    parts = services()

    def read() -> Any:
        return parts.reader.fetch(principal, job_id)

    if waiter is None:
        return read(), {}
    g.held = True
    row = until_finished(read, waiter, parts.wakeups, wait_s, look_first=look_first, clock=parts.clock)
    return row, {"Preference-Applied": f"wait={wait_s}"}


def _accepted(shown: dict[str, Any], headers: Mapping[str, str]) -> Response:
    return json_answer(shown, 202, {**headers, "Location": shown["urls"]["get"], "Retry-After": POLL_AGAIN_S})
