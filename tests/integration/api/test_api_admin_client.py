"""The Python client's `tenants`, `keys` and `audit` against the application, on a line that loses answers."""

import socket
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from headrace import (
    APIConnectionError,
    AuthenticationError,
    Client,
    Clock,
    ConflictError,
    NotFoundError,
    PermissionDeniedError,
    ValidationError,
)
from werkzeug.serving import make_server

from tests.integration.api.client import Api


class Line:
    """Serves an application. The answer to the next POST or PATCH is lost if `loses`: it was done by then."""

    def __init__(self, app: Callable[..., Any]) -> None:
        self.loses = False
        self._app = app
        self._server = make_server("127.0.0.1", 0, self._serve, threaded=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self.url = f"http://127.0.0.1:{self._server.port}"

    def __enter__(self) -> "Line":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _serve(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        answer = self._app(environ, start_response)
        if self.loses and environ["REQUEST_METHOD"] != "GET":
            self.loses = False
            environ["werkzeug.socket"].shutdown(socket.SHUT_RDWR)
        return answer


@pytest.fixture
def line(api: Api) -> Iterator[Line]:
    with Line(api.app) as line:
        yield line


@pytest.fixture
def operator(api: Api, line: Line) -> Iterator[Client]:
    with Client(line.url, api.key, clock=Clock(sleep=lambda _seconds: None)) as client:
        yield client


def test_an_operators_day(line: Line, operator: Client) -> None:
    tenant = operator.tenants.create("acme", weight=3, queued_jobs=7)
    assert (tenant.weight, tenant.queued_jobs, tenant.stored_bytes, tenant.disabled) == (3, 7, None, False)
    assert tenant.created_at is not None
    changed = operator.tenants.update("acme", queued_jobs=None, stored_bytes=0)
    assert (changed.weight, changed.queued_jobs, changed.stored_bytes) == (3, None, 0)
    assert [one.id for one in operator.tenants.list()] == ["acme", "default"]

    ends = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
    key = operator.keys.create("acme", name="backend", scopes=["jobs:read"], expires_at=ends)
    assert (key.tenant, key.name, key.scopes, key.live) == ("acme", "backend", ["jobs:read"], True)
    assert key.expires_at == ends
    assert key.key is not None
    with Client(line.url, key.key) as theirs:
        assert list(theirs.jobs.list()) == []
        with pytest.raises(PermissionDeniedError):
            theirs.tenants.get("acme")
    rotated = operator.keys.rotate(key.id, grace_period_seconds=60)
    assert (rotated.scopes, rotated.name, rotated.expires_at) == (
        ["jobs:read"],
        "backend",
        rotated.created_at + (ends - key.created_at),
    )
    assert [one.key for one in operator.keys.list("acme")] == [None, None], "told once"
    for _ in range(2):
        assert not operator.keys.revoke(key.id).live
    with pytest.raises(NotFoundError):
        operator.keys.rotate(key.id)

    for _ in range(2):
        assert operator.tenants.disable("acme").disabled
    with Client(line.url, rotated.key) as theirs, pytest.raises(AuthenticationError):
        list(theirs.jobs.list())
    assert not operator.tenants.enable("acme").disabled
    actions = [entry.action for entry in operator.audit.list()]
    assert actions == [*["tenants.set"] * 3, "keys.revoke", "keys.rotate", "keys.create", *actions[6:]]
    assert {entry.subject for entry in operator.audit.list(action="keys.revoke")} == {key.id}
    with pytest.raises(ValidationError) as caught:
        operator.tenants.update("acme", weight=0)
    assert caught.value.errors[0].pointer == "/weight"


def test_a_key_whose_answer_was_lost_is_one_key_that_can_be_found(line: Line, operator: Client) -> None:
    operator.tenants.create("acme")
    line.loses = True
    with pytest.raises(APIConnectionError):
        operator.keys.create("acme", name="lost")
    (lost,) = operator.keys.list("acme")
    assert (lost.name, lost.key, lost.live) == ("lost", None, True)
    (told, *_) = operator.audit.list(action="keys.create")
    assert told.subject == lost.id
    operator.keys.revoke(lost.id)
    again = operator.keys.create("acme", name="found")
    line.loses = True
    with pytest.raises(APIConnectionError):
        operator.keys.rotate(again.id)
    successor = next(operator.keys.list("acme"))
    operator.keys.revoke(successor.id)
    with pytest.raises(ConflictError, match=f"rotate its successor {successor.id}") as caught:
        operator.keys.rotate(again.id)
    assert caught.value.code == "key_rotated"
    ends = datetime.now(UTC) + timedelta(days=9)
    assert operator.keys.rotate(again.id, expires_at=ends).name == "found", "its grace period goes on"
    assert [one.live for one in operator.keys.list("acme")] == [True, False, True, False]


def test_what_is_safe_to_repeat_is_repeated(line: Line, operator: Client) -> None:
    line.loses = True
    with pytest.raises(ConflictError) as caught:
        operator.tenants.create("acme", weight=2)
    assert caught.value.code == "tenant_exists"
    (told,) = (line for line in operator.audit.list(action="tenants.create") if line.subject == "acme")
    assert (told.subject, told.details) == ("acme", {"weight": 2})
    for change in (operator.tenants.disable, operator.tenants.enable):
        line.loses = True
        change("acme")
    key = operator.keys.create("acme")
    line.loses = True
    assert not operator.keys.revoke(key.id).live
    assert len(list(operator.audit.list(action="keys.revoke"))) == 1
