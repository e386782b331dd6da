"""What `tracing` does when it is on. Nothing else imports this, since it imports OpenTelemetry."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Span, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import Link, NonRecordingSpan, SpanContext, SpanKind, TraceFlags, set_span_in_context
from opentelemetry.trace.status import StatusCode

from app import __version__

_SAMPLED = TraceFlags(TraceFlags.SAMPLED)
_FAILED = 500

_given: ContextVar[tuple[int, int] | None] = ContextVar("headrace_span_ids", default=None)


class _Ids(RandomIdGenerator):
    """Random, or those that were given for the span that is being made."""

    def generate_trace_id(self) -> int:
        given = _given.get()
        return given[0] if given else super().generate_trace_id()

    def generate_span_id(self) -> int:
        given = _given.get()
        return given[1] if given else super().generate_span_id()


class Spans:
    """Makes the spans of one process and sends them in the background. `ratio`: the share that is traced."""

    def __init__(self, program: str, endpoint: str, exporter: Any, ratio: float) -> None:
        self.ratio = ratio
        resource = Resource.create({"service.name": f"headrace-{program}", "service.version": __version__})
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=resource, id_generator=_Ids(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            SimpleSpanProcessor(exporter) if exporter else BatchSpanProcessor(OTLPSpanExporter(endpoint))
        )
        self._tracer = self._provider.get_tracer("headrace", __version__)

    def shutdown(self) -> None:
        """Send what is left."""
        self._provider.shutdown()

    def request(self, method: str, parent: tuple[int, int] | None, sampled: int | None) -> Any:
        """The span of a request, or None if it is not sampled. A client's own decision counts."""
        if sampled == 0 or (sampled is None and secrets.randbelow(1 << 32) >= self.ratio * (1 << 32)):
            return None
        context = set_span_in_context(NonRecordingSpan(_context(parent))) if parent else None
        return self._tracer.start_span(method, context=context, kind=SpanKind.SERVER)

    def trace_of(self, span: Any) -> str:
        """Its trace's id as text."""
        return f"{span.get_span_context().trace_id:032x}"

    def end_request(self, span: Any, method: str, route: str, status: int) -> None:
        """Name it after its route, and end it."""
        span.update_name(f"{method} {route}")
        span.set_attributes(
            {"http.request.method": method, "http.route": route, "http.response.status_code": status}
        )
        if status >= _FAILED:
            span.set_status(StatusCode.ERROR)
        span.end()

    def accepted(self, ids: tuple[int, int], model: str, request: Any) -> None:
        """The root of a job's trace."""
        token = _given.set(ids)
        try:
            span = self._tracer.start_span(
                "accept",
                kind=SpanKind.PRODUCER,
                attributes={"headrace.model": model},
                links=[Link(request.get_span_context())] if request is not None else [],
                start_time=request.start_time if isinstance(request, Span) else None,
            )
        finally:
            _given.reset(token)
        span.end()

    @contextmanager
    def micro_batch(
        self, model: str, version: str, linked: Sequence[tuple[int, int]], jobs: int, units: int
    ) -> Iterator[None]:
        """The span of a micro-batch; an exception that leaves it is named by its type."""
        span = self._tracer.start_span(
            "micro-batch",
            kind=SpanKind.CONSUMER,
            attributes={
                "headrace.model": model,
                "headrace.version": version,
                "headrace.jobs": jobs,
                "headrace.padded_units": units,
            },
            links=[Link(_context(ids)) for ids in linked],
        )
        try:
            yield
        except BaseException as error:
            span.set_status(StatusCode.ERROR, type(error).__name__)
            raise
        finally:
            span.end()

    def delivered(self, parent: tuple[int, int], event: str, outcome: str, began: int, ended: int) -> None:
        """The span of one try, in the trace of what it tells of. Times are in nanoseconds."""
        span = self._tracer.start_span(
            "webhook",
            context=set_span_in_context(NonRecordingSpan(_context(parent))),
            kind=SpanKind.CLIENT,
            attributes={"headrace.event": event, "headrace.outcome": outcome},
            start_time=began,
        )
        if outcome != "delivered":
            span.set_status(StatusCode.ERROR, outcome)
        span.end(ended)


def _context(ids: tuple[int, int]) -> SpanContext:
    return SpanContext(*ids, is_remote=True, trace_flags=_SAMPLED)
