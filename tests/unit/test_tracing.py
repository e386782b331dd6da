"""Traces: one per job with the job's id, whole or not at all, sent by OTLP, with nothing of what is in it."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from uuid import UUID

import pytest
from flask import Flask
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from app.api import edge
from app.domain.ids import new_uuid
from app.observability import tracing
from app.settings import Settings, Tracing
from tests.support.jobs import settings_for

CLIENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def settings(**given: object) -> Settings:
    base = settings_for("postgresql://", "redis://")
    return base.model_copy(update={"tracing": Tracing.model_validate(given)})


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.configure(settings(), "test", exporter)
    yield exporter
    tracing.shutdown()


def application(job: UUID) -> Flask:
    app = Flask("traced")
    edge.install(app)

    @app.post("/v1/jobs")
    def submit() -> str:
        tracing.accepted(job, "echo")
        return "secret payload"

    @app.get("/livez")
    def livez() -> str:
        return ""

    return app


def by_name(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    return {span.name: span for span in exporter.get_finished_spans()}


def test_a_job_can_be_followed_from_request_by_micro_batch_to_webhook(spans: InMemorySpanExporter) -> None:
    job, other = new_uuid(), new_uuid()
    http = application(job).test_client()
    http.post("/v1/jobs?token=hidden", headers={"traceparent": CLIENT, "Authorization": "Bearer hidden"})
    http.get("/livez")
    with tracing.micro_batch("echo", "1", [job, other], 7):
        pass
    tracing.delivered(job, "job.completed", "timeout", 0.5)

    found = by_name(spans)
    assert set(found) == {"POST /v1/jobs", "accept", "micro-batch", "webhook"}
    request, accept = found["POST /v1/jobs"], found["accept"]
    assert f"{request.context.trace_id:032x}" == CLIENT.split("-")[1], "it goes on with the client's trace"
    assert request.parent is not None
    assert (accept.context.trace_id, accept.parent) == (job.int, None), "the job's id is its trace's"
    assert accept.links[0].context.span_id == request.context.span_id
    assert accept.start_time == request.start_time

    batch, webhook = found["micro-batch"], found["webhook"]
    assert [link.context.trace_id for link in batch.links] == [job.int, other.int]
    assert batch.links[0].context.span_id == accept.context.span_id
    assert webhook.context.trace_id == job.int
    assert webhook.parent is not None
    assert webhook.parent.span_id == accept.context.span_id
    assert (webhook.end_time or 0) - (webhook.start_time or 0) == 500_000_000
    assert webhook.kind is SpanKind.CLIENT

    everything = " ".join(span.to_json() for span in found.values())
    for word in ("secret", "hidden", "Bearer"):
        assert word not in everything


@pytest.mark.parametrize("sent", ["", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01"])
def test_what_is_no_traceparent_begins_a_trace(spans: InMemorySpanExporter, sent: str) -> None:
    application(new_uuid()).test_client().post("/v1/jobs", headers={"traceparent": sent})
    assert by_name(spans)["POST /v1/jobs"].parent is None


def test_a_client_that_does_not_trace_its_request_is_not_traced(spans: InMemorySpanExporter) -> None:
    application(new_uuid()).test_client().post("/v1/jobs", headers={"traceparent": CLIENT[:-1] + "0"})
    assert set(by_name(spans)) == {"accept"}


def test_a_share_of_the_jobs_is_traced_and_each_of_them_whole() -> None:
    exporter = InMemorySpanExporter()
    tracing.configure(settings(ratio=0.25), "test", exporter)
    try:
        jobs = [new_uuid() for _ in range(400)]
        for job in jobs:
            tracing.accepted(job, "echo")
            tracing.delivered(job, "job.completed", "delivered", 0.1)
        with tracing.micro_batch("echo", "1", jobs, 400):
            pass
    finally:
        tracing.shutdown()
    traced: dict[str, set[int]] = {"accept": set(), "webhook": set()}
    linked = set()
    for span in exporter.get_finished_spans():
        if span.name == "micro-batch":
            linked = {link.context.trace_id for link in span.links}
        else:
            traced[span.name].add(span.context.trace_id)
    assert traced["accept"] == traced["webhook"]
    assert linked <= traced["accept"]
    assert 50 < len(traced["accept"]) < 150


def test_spans_are_sent_by_otlp() -> None:
    bodies = []

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    job = new_uuid()
    with HTTPServer(("127.0.0.1", 0), Collector) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        tracing.configure(settings(endpoint=f"http://127.0.0.1:{server.server_port}/v1/traces"), "worker")
        tracing.accepted(job, "echo")
        tracing.shutdown()
        server.shutdown()
    ((path, body),) = bodies
    assert path == "/v1/traces"
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert names["service.name"] == "headrace-worker"
    assert resource.scope_spans[0].spans[0].trace_id == job.bytes


def test_without_the_setting_nothing_is_imported_for_it() -> None:
    """redis-py imports OpenTelemetry's SDK itself where it is installed; the exporter is our doing."""
    program = (
        "import sys, app.factory, workers.pipeline, workers.webhooks.sender\n"
        "from app.observability import tracing\n"
        "assert tracing.begin_request('GET', None) is None\n"
        "assert not {'app.observability.spans', 'opentelemetry.exporter'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)
