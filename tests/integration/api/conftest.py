"""The application in this process, on real servers."""

import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from app.db import models, tenants
from app.domain.lanes import Device
from app.domain.model import ModelSpec
from app.domain.scopes import SCOPES
from app.factory import create_app
from app.intake.keys import issue_key
from app.observability import logs
from app.settings import Api as ApiSettings
from app.settings import Files as FileSettings
from app.settings import Settings
from tests.integration.api.client import Api, HandSender, HandWorker
from tests.support.jobs import Queue, settings_for
from tests.support.servers import PostgresServer, api_url

STRICT_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string", "maxLength": 10},
        "count": {"type": "integer", "minimum": 0},
        "a/b~c": {"type": "array", "items": {"type": "number"}},
    },
    "required": ["text"],
    "additionalProperties": False,
}


def strict_spec(version: str = "1") -> ModelSpec:
    """A model that takes little."""
    return ModelSpec(
        name="strict",
        version=version,
        source="nowhere.py:Strict",
        source_sha256="0" * 64,
        device=Device.CPU,
        unit="tokens",
        max_batch_items=8,
        max_batch_units=None,
        execution_timeout_s=30.0,
        memory_mb=1,
        input_schema=STRICT_SCHEMA,
        output_schema={"type": "object"},
    )


class Clock:
    """A monotonic clock that moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def small_settings(database_url: str, redis_url: str, storage: Path | None = None) -> Settings:
    """Small limits, so that going over them is cheap."""
    return settings_for(
        database_url,
        redis_url,
        api=ApiSettings(
            database_url=SecretStr(api_url(database_url)),
            max_body_bytes=100_000,
            max_json_depth=32,
            max_waiters=20,
        ),
        files=FileSettings(max_bytes=300_000, quota_bytes=1_000_000),
        storage_url=storage.as_uri() if storage else None,
    )


@contextmanager
def open_api(database_url: str, redis_url: str, storage: Path | None = None, **options: Any) -> Iterator[Api]:
    """The application on these servers, with `echo` and `strict` registered, and a key that may do all."""
    settings = small_settings(database_url, redis_url, storage)
    queue = Queue.open(database_url)
    models.register(queue.engine, strict_spec(), actor="test")
    pepper = settings.secret_key.get_secret_value()
    app = create_app(settings, **options)
    yield Api(app, queue, settings, issue_key(queue.engine, pepper, queue.tenant_id, actor="test"))
    parts = app.extensions["headrace"]
    parts.wakeups.close()
    parts.engine.dispose()
    queue.engine.dispose()


@pytest.fixture(scope="session", autouse=True)
def _quiet_logs() -> Iterator[None]:
    """Logs as in production, to nowhere."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    with open(os.devnull, "w") as nowhere:
        logs.configure(small_settings("postgresql://", "redis://"), nowhere)
        yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def api(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Api]:
    with open_api(database_url, redis_url, tmp_path / "storage") as api:
        yield api


@pytest.fixture(scope="module")
def module_api(
    postgres_server: PostgresServer,
    template_database: str,
    valkey_server: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Api]:
    """One application for the tests of a module that share a server. What others wrote is still there."""
    storage = tmp_path_factory.mktemp("module") / "storage"
    with postgres_server.database(template_database) as url, open_api(url, valkey_server, storage) as api:
        yield api


@pytest.fixture(scope="session")
def reader(postgres_server: PostgresServer, template_database: str, valkey_server: str) -> Iterator[Api]:
    """One application for all tests that write nothing."""
    with postgres_server.database(template_database) as url, open_api(url, valkey_server) as api:
        yield api


@pytest.fixture
def log(api: Api) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """What is logged meanwhile, line by line."""
    stream = io.StringIO()
    logs.configure(api.settings, stream)
    yield lambda: [orjson.loads(line) for line in stream.getvalue().splitlines()]
    logs.configure(api.settings, io.StringIO())


@pytest.fixture
def worker(api: Api) -> HandWorker:
    return HandWorker.start(api.queue)


@pytest.fixture
def sender(api: Api) -> HandSender:
    return HandSender.start(api.queue)


@pytest.fixture
def stranger(api: Api) -> Api:
    """A key of another tenant that may do all."""
    return api.with_key(*SCOPES, tenant_id=tenants.ensure(api.queue.engine, "stranger", actor="test"))
