"""`/v1/jobs/{id}/events`: a job's events as they happen, as server-sent events (WHATWG HTML, 9.2)."""

from collections.abc import Iterator
from itertools import chain

import orjson
from flask import Blueprint, Response, g, request

from app.api import parameters as p
from app.api.answers import base_url
from app.api.operation import Answer, Operation, route
from app.api.services import services
from app.domain.states import TERMINAL
from app.errors import Unavailable
from app.intake import control
from app.intake.authenticate import Principal
from app.intake.follow import END, Changes, JobEvent, follow

SILENCE_S = 15.0
"""A comment is sent after this long without an event, so that nobody in between thinks the line dead."""
LONGEST_S = 900.0
"""A stream ends after this long; the client comes back with its last id, and its key is checked anew."""
_RECONNECT = b"retry: 1000\n\n"
_COMMENT = b": still here\n\n"

blueprint = Blueprint("job_events", __name__)


@route(
    blueprint,
    Operation(
        "followJob",
        "GET",
        "/v1/jobs/<job_id>/events",
        "jobs",
        "Follow a job",
        "Server-sent events: `status` (first, and on each change), `progress` (while a model reports it) and"
        " `completed`, last, with the whole job. A broken stream is resumed with `Last-Event-ID`. A comment"
        " comes every 15 s.",
        scope="jobs:read",
        parameters=(p.JOB_ID, p.LAST_EVENT_ID),
        answers={
            200: Answer("The events.", media="text/event-stream"),
            204: Answer("There is nothing after that event: the job has ended.", media=""),
        },
        errors=("job_not_found", "too_many_waiters"),
    ),
)
def events(principal: Principal, job_id: str) -> Response:
    """A job's events, from the last one seen on."""
    parts = services()
    key = control.parse_job_id(job_id)
    row = control.fetch(parts.engine, principal, key)
    last_id = request.headers.get("Last-Event-ID", "")[:100]
    g.held = True
    if last_id == END and row.status in TERMINAL:
        return Response(status=204)
    if request.method == "HEAD":
        return _stream(iter(()))
    found = follow(
        parts.engine,
        parts.wakeups,
        principal.tenant_id,
        key,
        Changes(base_url(), last_id),
        silence_s=SILENCE_S,
        longest_s=LONGEST_S,
        clock=parts.clock,
    )
    first = next(found, None)  # now, because it may raise, and a stream that began can't be a problem
    return _stream(_encoded(chain([first], found)))


def encode(event: JobEvent) -> bytes:
    """One event in the format of the stream; orjson writes no line breaks, so its data is one line."""
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        event.id.encode(),
        event.kind.encode(),
        orjson.dumps(event.data),
    )


def _encoded(found: Iterator[JobEvent | None]) -> Iterator[bytes]:
    yield _RECONNECT
    try:
        for event in found:
            yield _COMMENT if event is None else encode(event)
    except Unavailable:  # an answer that began can't become a problem; the client comes back
        return


def _stream(pieces: Iterator[bytes]) -> Response:
    answer = Response(pieces, mimetype="text/event-stream")
    # nginx would hold small events back.
    answer.headers["X-Accel-Buffering"] = "no"
    answer.headers["Cache-Control"] = "no-store"
    return answer
