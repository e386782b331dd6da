"""Another tenant's things are not there: every operation of the OpenAPI document with a foreign id."""

import io
import re
from typing import Any

import pytest

from app.domain.scopes import USUAL_SCOPES
from tests.integration.api.client import Api

# Named by what stands in the path. A new operation with a new name has to say here what a foreign one is.
OWNED = ("job_id", "batch_id", "file_id", "endpoint_id", "delivery_id")
SHARED = ("model", "worker_id", "tenant", "key_id")
"""Models are everybody's. The others are the operators', who need `admin`: see below."""


def operations(api: Api) -> list[tuple[str, str, Any]]:
    paths = api.http.get("/openapi.json").json["paths"]
    return [(method, path, one) for path, methods in paths.items() for method, one in methods.items()]


@pytest.fixture
def owned(api: Api) -> dict[str, str]:
    """An id of each kind, of the first tenant."""
    form = {"purpose": "user_data", "file": (io.BytesIO(b"mine"), "mine.txt")}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/jobs", "body": {"model": "echo", "input": {}}}
    batch = {"endpoint": "/v1/jobs", "completion_window": "24h", "requests": [line]}
    endpoint = api.register()["id"]
    return {
        "job_id": api.submit()["id"],
        "batch_id": api.post("/v1/batches", json=batch).json["id"],
        "file_id": api.post("/v1/files", data=form, content_type="multipart/form-data").json["id"],
        "endpoint_id": endpoint,
        "delivery_id": api.post(f"/v1/webhooks/{endpoint}/test").json["id"],
    }


def snapshot(api: Api, owned: dict[str, str]) -> list[Any]:
    """All of it as its owner sees it."""
    places = {
        "job_id": "jobs",
        "batch_id": "batches",
        "file_id": "files",
        "endpoint_id": "webhooks",
        "delivery_id": "webhooks/deliveries",
    }
    return [api.get(f"/v1/{place}/{owned[name]}").json for name, place in places.items()]


def test_every_operation_with_a_foreign_id_is_404_and_changes_nothing(
    api: Api, stranger: Api, owned: dict[str, str]
) -> None:
    before, tried = snapshot(api, owned), 0
    for method, path, operation in operations(api):
        names = re.findall(r"{(\w+)}", path)
        assert set(names) <= {*OWNED, *SHARED}, f"{path}: say what a foreign id is"
        if not names or set(names) <= set(SHARED):
            continue
        options = {"json": _body(api, operation)} if "requestBody" in operation else {}
        answer = stranger.request(method.upper(), path.format(**owned), **options)
        assert answer.status_code == 404, (method, path, answer.text)
        assert answer.json["code"].endswith("_not_found"), (method, path)
        for value in owned.values():
            assert value not in answer.text.replace(answer.json["instance"], ""), (method, path)
        tried += 1
    assert tried > 15
    assert snapshot(api, owned) == before


def test_every_operation_for_operators_is_403_without_admin(api: Api) -> None:
    tenant = api.with_key(*USUAL_SCOPES)
    told = [
        (method, path)
        for method, path, one in operations(api)
        if "Scope: `admin`" in one["description"] or path.startswith("/v1/workers")
    ]
    assert told
    for method, path in told:
        answer = tenant.request(method.upper(), re.sub(r"{\w+}", "x", path))
        assert (answer.status_code, answer.json["code"]) == (403, "missing_scope"), (method, path)


def test_lists_hold_nothing_of_others(api: Api, stranger: Api, owned: dict[str, str]) -> None:
    for method, path, _ in operations(api):
        if method == "get" and path.startswith("/v1/") and "{" not in path:
            shown = stranger.get(path).text
            assert not [value for value in owned.values() if value in shown], path


def _body(api: Api, operation: Any) -> Any:
    """A body that is right, where one is needed: what is wrong would be said before what is not there."""
    schema = next(iter(operation["requestBody"]["content"].values()))["schema"]
    name = schema["$ref"].rsplit("/", 1)[-1]
    return {"EndpointChange": {"description": "x"}, "RecoveryRequest": {"since": "2020-01-01T00:00:00Z"}}.get(
        name, {}
    )
