"""Bugs are reported to Sentry by setting, without what a client sent."""

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import sentry_sdk
from pydantic import SecretStr
from sqlalchemy import text

from app.db import jobs
from app.db.engine import connect
from app.observability import bugs, logs
from app.settings import Sentry
from tests.integration.api.client import Api
from tests.support.jobs import Queue, settings_for
from tests.support.waiting import wait_until


@pytest.fixture
def envelopes() -> Iterator[tuple[str, list[str]]]:
    """A DSN on loopback, and what arrives there."""
    arrived: list[str] = []

    class Project(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            packed = self.headers.get("Content-Encoding") == "gzip"
            arrived.append((gzip.decompress(body) if packed else body).decode())
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Project) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://public@127.0.0.1:{server.server_port}/1", arrived
        server.shutdown()
        thread.join(10)


@pytest.fixture
def reporting(envelopes: tuple[str, list[str]], database_url: str, redis_url: str) -> Iterator[list[str]]:
    dsn, arrived = envelopes
    settings = settings_for(database_url, redis_url, sentry=Sentry(dsn=SecretStr(dsn), environment="tests"))
    logs.configure(settings)
    assert sentry_sdk.get_client().integrations == {}, "no library is patched"
    yield arrived
    bugs.shutdown()
    logs.configure(settings.model_copy(update={"sentry": Sentry()}))


def test_a_bug_in_the_api_arrives_without_key_payload_or_values(
    api: Api, reporting: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "_GET", text("SELECT CAST('my diary' AS json), :ids"))
    answer = api.get("/v1/jobs/job_" + "0" * 32, headers={"X-Request-Id": "r-sentry"})
    assert answer.status_code == 500
    (report,) = wait_until(lambda: reporting, 10, "the report")
    for told in ("r-sentry", "http.failed", "DataError", "app/db/jobs.py", "headrace@", "tests"):
        assert told in report, told
    for secret in ("diary", api.key.split("_")[2], api.settings.secret_key.get_secret_value()):
        assert secret not in report


def test_a_bug_in_a_worker_arrives_and_a_database_that_is_away_is_none(
    queue: Queue, reporting: list[str]
) -> None:
    log = logs.get_logger()
    try:
        with connect(queue.engine) as connection:
            connection.execute(text("SELECT CAST(:secret AS int)"), {"secret": "planted"})
    except Exception:
        log.exception("scheduler.service_failed", service="rescue")
    log.warning("scheduler.database_away", exc_info=ValueError("not a bug"))
    (report,) = wait_until(lambda: reporting, 10, "the report")
    assert "scheduler.service_failed" in report
    assert "planted" not in report
    assert "not a bug" not in report
