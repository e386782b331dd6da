"""The answers that several nouns share: JSON, lists, and a job that was just accepted."""

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from flask import Response, g, request

from app.api.prefer import wait_seconds
from app.api.services import services
from app.domain.states import TERMINAL
from app.intake import control, view
from app.intake.accept import Fresh, Replayed
from app.intake.authenticate import Principal
from app.intake.wait import until_finished

POLL_AGAIN_S = "1"


def json_answer(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`body` as JSON."""
    answer = Response(orjson.dumps(body), status, mimetype="application/json")
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
    return services().settings.api.public_url or request.host_url.rstrip("/")


def wanted_wait() -> int | None:
    """What `Prefer: wait` asks for. Raises `Malformed`; so ask before anything is written."""
    return wait_seconds(request.headers.getlist("Prefer"), services().settings.api.max_wait_s)


def accepted(principal: Principal, written: Fresh | Replayed, wait_s: int | None) -> Response:
    """202 with the job; after a wait, the job as it is then, and 200 if it ended."""
    headers = {"Idempotent-Replayed": "true"} if isinstance(written, Replayed) else {}
    if wait_s is None:
        if isinstance(written, Fresh):
            shown = view.fresh_job(written, base_url())
        else:
            shown = view.first_job(written.row, base_url())
        return _accepted(shown, headers)
    job_id = written.job.id if isinstance(written, Fresh) else written.row.id
    headers |= hold(job_id, wait_s)
    row = control.fetch(services().engine, principal, job_id)
    shown = view.job(row, base_url())
    if row.status in TERMINAL:
        return json_answer(shown, 200, headers | {"Location": shown["urls"]["get"]})
    return _accepted(shown, headers)


def hold(job_id: Any, wait_s: int) -> dict[str, str]:
    """Wait for the job's end. Returns the header that says so, or none if this process can't hold more."""
    parts = services()
    g.held = True
    held = until_finished(parts.engine, parts.wakeups, job_id, wait_s, parts.clock)
    return {} if held is None else {"Preference-Applied": f"wait={wait_s}"}


def _accepted(shown: dict[str, Any], headers: Mapping[str, str]) -> Response:
    return json_answer(shown, 202, {**headers, "Location": shown["urls"]["get"], "Retry-After": POLL_AGAIN_S})
