"""OpenTelemetry traces: a job's trace has the job's id, so nothing about it is stored or sent along.

request ──linked by── accept (the root of the job's trace) ──linked by── micro-batch
                        └── webhook

Off unless `HEADRACE_TRACING_ENDPOINT` is set: then no call here does more than look at a global, and
nothing is imported for it. Spans hold names, counts and times, never inputs, outputs, URLs or keys.
"""

import hashlib
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from uuid import UUID

from app.errors import SettingsError
from app.settings import Settings

if TYPE_CHECKING:
    from app.observability.spans import Spans

_spans: "Spans | None" = None
_request: ContextVar[Any] = ContextVar("headrace_request_span", default=None)

_LOW = (1 << 64) - 1
_TRACEPARENT = re.compile(r"00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})")


def configure(settings: Settings, program: str, exporter: Any = None) -> None:
    """Send this process's spans, if that is asked for. Once per process, after it was forked: it starts a
    thread. `exporter` is a test's own.

    Raises `SettingsError` if OpenTelemetry is not installed.
    """
    global _spans
    tracing = settings.tracing
    if exporter is None and not tracing.endpoint:
        return
    try:
        from app.observability.spans import Spans
    except ModuleNotFoundError as error:
        problem = f"HEADRACE_TRACING_ENDPOINT: {error.name} is not installed: pip install 'headrace[tracing]'"
        raise SettingsError([problem]) from None
    _spans = Spans(program, tracing.endpoint or "", exporter, tracing.ratio)


def shutdown() -> None:
    """Send what is left, and stop."""
    global _spans
    if _spans is not None:
        _spans.shutdown()
        _spans = None


def trace_ids(job_id: UUID) -> tuple[int, int]:
    """The trace id of a job, or of a batch, and the id of its root span."""
    return job_id.int, job_id.int & _LOW


def begin_request(method: str, traceparent: str | None) -> str | None:
    """A request begins; it goes on with the client's trace if it sent a valid `traceparent`.

    Returns the trace's id for the log, or None if it is not traced.
    """
    if _spans is None:
        return None
    match = _TRACEPARENT.fullmatch(traceparent or "")
    parent = (int(match[1], 16), int(match[2], 16)) if match else None
    if parent and not all(parent):
        match = parent = None
    span = _spans.request(method, parent, int(match[3], 16) & 1 if match else None)
    _request.set(span)
    return _spans.trace_of(span) if span else None


def end_request(method: str, route: str, status: int) -> None:
    """The answer of the current request begins."""
    if _spans is None:
        return
    if (span := _request.get()) is not None:
        _request.set(None)
        _spans.end_request(span, method, route, status)


def accepted(job_id: UUID, model: str) -> None:
    """The job, or batch, was committed: its trace begins, linked to the current request's."""
    if _spans is not None and _sampled(job_id):
        _spans.accepted(trace_ids(job_id), model, _request.get())


@contextmanager
def micro_batch(model: str, version: str, ids: Iterable[UUID], units: int) -> Iterator[None]:
    """Around running a micro-batch of these jobs, or of jobs of these batches: one span, a link for each."""
    if _spans is None:
        yield
        return
    known = list(ids)
    linked = [trace_ids(id) for id in dict.fromkeys(known) if _sampled(id)]
    if not linked:
        yield
        return
    with _spans.micro_batch(model, version, linked, len(known), units):
        yield


def delivered(about: UUID | None, event: str, outcome: str, seconds: float) -> None:
    """A try to deliver a webhook about this job or batch ended just now, after `seconds`."""
    if _spans is not None and about is not None and _sampled(about):
        now = time.time_ns()
        _spans.delivered(trace_ids(about), event, outcome, now - int(seconds * 1e9), now)


def _sampled(job_id: UUID) -> bool:
    """The same in every process, so that a trace is whole or not there at all."""
    if _spans is None:
        return False
    digest = hashlib.blake2b(job_id.bytes, digest_size=8).digest()
    return int.from_bytes(digest) < _spans.ratio * (1 << 64)
