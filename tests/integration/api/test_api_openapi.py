"""The OpenAPI document: complete, true, and the page that shows it."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from jsonschema_rs import Draft202012Validator
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from app.api.catalogue_of_errors import CODES
from tests.integration.api.client import Api, HandWorker
from tests.integration.api.conftest import open_api
from tests.support.servers import PostgresServer

load_all_checks()
# Not negative_data_rejection: a query parameter or header loses what makes it wrong when it is written
# out as text. Bodies that break the schema are checked below.
CHECKED = CHECKS.get_by_names(
    [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "missing_required_header",
        "unsupported_method",
        "allow_header_conformance",
    ]
)
FUZZ = settings(
    max_examples=40, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)

EXPECTED = {
    ("get", "/"),
    ("get", "/livez"),
    ("get", "/readyz"),
    ("get", "/metrics"),
    ("get", "/v1/jobs"),
    ("post", "/v1/jobs"),
    ("get", "/v1/jobs/{job_id}"),
    ("delete", "/v1/jobs/{job_id}"),
    ("post", "/v1/jobs/{job_id}/cancel"),
    ("post", "/v1/jobs/{job_id}/retry"),
    ("get", "/v1/jobs/{job_id}/events"),
    ("post", "/v1/embeddings"),
    ("get", "/v1/models"),
    ("get", "/v1/models/{model}"),
    ("get", "/v1/workers"),
    ("post", "/v1/workers/{worker_id}/drain"),
    ("get", "/v1/tenants"),
    ("post", "/v1/tenants"),
    ("get", "/v1/tenants/{tenant}"),
    ("patch", "/v1/tenants/{tenant}"),
    ("get", "/v1/tenants/{tenant}/keys"),
    ("post", "/v1/tenants/{tenant}/keys"),
    ("post", "/v1/keys/{key_id}/rotate"),
    ("post", "/v1/keys/{key_id}/revoke"),
    ("get", "/v1/audit"),
    ("get", "/v1/batches"),
    ("post", "/v1/batches"),
    ("get", "/v1/batches/{batch_id}"),
    ("post", "/v1/batches/{batch_id}/cancel"),
    ("post", "/v1/batches/{batch_id}/retry"),
    ("get", "/v1/batches/{batch_id}/results"),
    ("get", "/v1/files"),
    ("post", "/v1/files"),
    ("get", "/v1/files/{file_id}"),
    ("delete", "/v1/files/{file_id}"),
    ("get", "/v1/files/{file_id}/content"),
    ("get", "/v1/webhooks"),
    ("post", "/v1/webhooks"),
    ("get", "/v1/webhooks/{endpoint_id}"),
    ("patch", "/v1/webhooks/{endpoint_id}"),
    ("delete", "/v1/webhooks/{endpoint_id}"),
    ("post", "/v1/webhooks/{endpoint_id}/rotate-secret"),
    ("post", "/v1/webhooks/{endpoint_id}/test"),
    ("post", "/v1/webhooks/{endpoint_id}/recover"),
    ("get", "/v1/webhooks/default/secret"),
    ("post", "/v1/webhooks/default/rotate-secret"),
    ("get", "/v1/webhooks/deliveries"),
    ("get", "/v1/webhooks/deliveries/{delivery_id}"),
    ("post", "/v1/webhooks/deliveries/{delivery_id}/redeliver"),
}


@pytest.fixture(scope="module")
def document(reader: Api) -> Any:
    return reader.http.get("/openapi.json").json


def operations(document: Any) -> list[tuple[str, str, Any]]:
    return [
        (method, path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]


def test_every_operation_is_in_it(document: Any) -> None:
    assert document["openapi"] == "3.1.0"
    assert {(method, path) for method, path, _ in operations(document)} >= EXPECTED


def test_it_says_what_goes_wrong_who_may_and_what_comes_back(document: Any) -> None:
    for method, path, operation in operations(document):
        where = f"{method} {path}"
        statuses = {int(status) for status in operation["responses"]}
        assert operation["summary"], where
        assert 500 in statuses, where
        if path.startswith("/v1/"):
            assert operation["security"] == [{"key": []}], where
            assert {401, 503} <= statuses, where
        else:
            assert operation["security"] == [], where
        for status, answer in operation["responses"].items():
            assert "X-Request-Id" in answer["headers"], where
            if int(status) >= 400:
                assert list(answer["content"]) == ["application/problem+json"], where
        names = re.findall(r"{(\w+)}", path)
        assert names == [p["name"] for p in operation["parameters"] if p["in"] == "path"], where


def test_every_error_code_is_in_it_somewhere_or_is_the_frameworks(document: Any) -> None:
    told = {
        code
        for _, _, operation in operations(document)
        for answer in operation["responses"].values()
        for code in re.findall(r"^- `(\w+)`", answer["description"], re.MULTILINE)
    }
    assert set(CODES) - told <= {"not_found", "method_not_allowed", "too_many_requests"}


def test_every_reference_leads_somewhere_and_every_schema_compiles(document: Any) -> None:
    for reference in set(re.findall(r"'\$ref': '#/([^']+)'", str(document))):
        target = document
        for step in reference.split("/"):
            target = target[step]
    for name in document["components"]["schemas"]:
        Draft202012Validator({"$ref": f"#/components/schemas/{name}", "components": document["components"]})


def test_real_jobs_are_what_it_says(api: Api, worker: HandWorker, document: Any) -> None:
    """Jobs in every state, by schema with nothing additional."""
    done, queued = api.submit({"x": [1]}, metadata={"k": "v"}), None
    worker.work()
    queued = api.submit()
    validator = Draft202012Validator(
        {"$ref": "#/components/schemas/Job", "components": document["components"]}, validate_formats=True
    )
    for job in (queued, *(api.get(f"/v1/jobs/{one['id']}").json for one in (done, queued))):
        assert [error.message for error in validator.iter_errors(job)] == []
    workers = api.get("/v1/workers").json
    assert workers["data"][0]["state"] == "ready"


def test_a_worker_told_to_drain_says_so_and_a_foreign_id_is_404(
    api: Api, worker: HandWorker, document: Any
) -> None:
    shown = api.get("/v1/workers").json["data"][0]
    drained = api.post(f"/v1/workers/{shown['id']}/drain")
    assert drained.status_code == 200
    assert (drained.json["state"], drained.json["drain_cause"]) == ("draining", "operator")
    assert drained.json == api.get("/v1/workers").json["data"][0]
    validator = Draft202012Validator(
        {"$ref": "#/components/schemas/Worker", "components": document["components"]}, validate_formats=True
    )
    assert [error.message for error in validator.iter_errors(drained.json)] == []
    another = shown["id"][:-1] + ("1" if shown["id"].endswith("0") else "0")
    for unknown in ("worker_x", another, shown["id"].replace("worker", "job")):
        answer = api.post(f"/v1/workers/{unknown}/drain")
        assert (answer.status_code, answer.json["code"]) == (404, "worker_not_found")


def test_models_are_openais_and_tell_their_schemas(reader: Api) -> None:
    answer = reader.get("/v1/models").json
    assert answer["object"] == "list"
    strict = next(model for model in answer["data"] if model["id"] == "strict")
    assert {"id", "object", "created", "owned_by"} <= set(strict)
    assert (strict["version"], strict["versions"]) == ("1", ["1"])
    assert strict["input_schema"]["required"] == ["text"]
    assert "source" not in strict
    assert reader.get("/v1/models/strict").json == strict
    assert reader.get("/v1/models/strict@1").json == strict | {"id": "strict@1"}


def test_the_page_shows_it_without_asking_anybody_else(reader: Api) -> None:
    answer = reader.http.get("/docs")
    assert answer.mimetype == "text/html"
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "http" not in policy
    assert not re.search(r"<script(?![^>]*src=)|\bon\w+=|https?://", answer.text)
    for link in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
        found = reader.http.get(link)
        assert found.status_code == 200, link
        found.close()
    script = reader.http.get("/docs/swagger-ui-bundle.js")
    assert script.mimetype in ("text/javascript", "application/javascript")
    assert len(script.data) > 100_000


@pytest.fixture(scope="module")
def fuzzed(
    postgres_server: PostgresServer,
    template_database: str,
    valkey_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    storage = tmp_path_factory.mktemp("storage")
    with postgres_server.database(template_database) as url, open_api(url, valkey_server, storage) as api:
        HandWorker.start(api.queue)
        api.submit({"text": "hi"})
        schema = schemathesis.openapi.from_wsgi("/openapi.json", api.app)
        schema.config.generation.update(modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
        yield api, schema


@pytest.mark.parametrize(("method", "path"), sorted(EXPECTED))
def test_whatever_is_sent_the_document_holds(fuzzed: Any, method: str, path: str) -> None:
    """Schemathesis: right and wrong requests made from the document; answers must be in it, and no 5xx."""
    api, schema = fuzzed
    operation = schema[path][method.upper()]
    raw = operation.definition.raw
    takes_json = "application/json" in raw.get("requestBody", {}).get("content", {})
    takes_body = body_validator(schema.raw_schema, raw) if takes_json else None

    @FUZZ
    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    def right(case: Any) -> None:
        send(case)

    @FUZZ
    @given(case=operation.as_strategy(generation_mode=GenerationMode.NEGATIVE))
    def wrong(case: Any) -> None:
        send(case)

    def send(case: Any) -> None:
        answer = case.call_and_validate(checks=CHECKED, headers={"Authorization": f"Bearer {api.key}"})
        if takes_body and isinstance(case.body, dict | list | str | int | None):
            assert takes_body.is_valid(case.body) or 400 <= answer.status_code < 500

    right()
    if raw.get("parameters") or takes_body:
        wrong()


def body_validator(document: Any, operation: Any) -> Draft202012Validator:
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    return Draft202012Validator({**schema, "components": document["components"]})
