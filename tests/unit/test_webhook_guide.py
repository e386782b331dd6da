"""The receivers of the webhook guide, as they are written there, get what the sender signs."""

import os
import runpy
import shutil
import socket
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import orjson
import pytest
import requests
from flask import Flask

from app.domain.delivery import DELAYS_S, SUBSCRIBABLE, Event, TryError
from app.domain.signature import new_secret, sign
from app.intake.webhooks import MOST_ENDPOINTS
from tests.support import node
from tests.support.guides import DOCS, blocks
from tests.support.waiting import wait_until

GUIDE = DOCS / "guides" / "webhooks.md"
BODY = orjson.dumps(
    {
        "type": "job.completed",
        "timestamp": "2026-01-31T12:00:00Z",
        "data": {"id": "job_1", "status": "succeeded", "output": {"text": "the mill wheel turns, grün"}},
    }
)
FLASK = [block.text for block in blocks(GUIDE) if block.language == "python" and "Flask(" in block.text]
(NODE,) = [block.text for block in blocks(GUIDE) if block.language == "js"]
SHELL = [block.text for block in blocks(GUIDE) if block.language == "sh"]
(EXAMPLE,) = [text for text in SHELL if text.startswith("WEBHOOK_SECRET=")]
(OPENSSL,) = [text for text in SHELL if "openssl dgst" in text]


@dataclass(frozen=True)
class Request:
    """A webhook as it arrives, signed by the code that the sender uses."""

    body: bytes
    headers: dict[str, str]

    @classmethod
    def signed(cls, *secrets: str, body: bytes = BODY, age_s: int = 0) -> "Request":
        headers = sign("dlv_" + "1" * 32, int(time.time()) - age_s, body, secrets)
        return cls(body, {"content-type": "application/json", **headers})


def forgeries(secret: str) -> dict[str, Request]:
    """What a receiver must refuse."""
    genuine = Request.signed(secret)
    rewritten = orjson.dumps(orjson.loads(BODY), option=orjson.OPT_INDENT_2)
    return {
        "a changed body": replace(genuine, body=BODY.replace(b"succeeded", b"failed")),
        "JSON written again": replace(genuine, body=rewritten),
        "another id": replace(genuine, headers={**genuine.headers, "webhook-id": "dlv_" + "2" * 32}),
        "another secret": Request.signed(new_secret()),
        "an hour old": Request.signed(secret, age_s=3600),
        "no signature": replace(genuine, headers={"content-type": "application/json"}),
    }


@pytest.fixture
def secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """What the receiver finds in its environment; it works in a folder of its own."""
    made = new_secret()
    monkeypatch.setenv("WEBHOOK_SECRET", made)
    monkeypatch.chdir(tmp_path)
    return made


def flask_app(source: str) -> Flask:
    file = Path("receiver.py")
    file.write_text(source)
    app = runpy.run_path(str(file))["app"]
    assert isinstance(app, Flask)
    return app


def answer_of(app: Flask, request: Request) -> int:
    return app.test_client().post("/hook", data=request.body, headers=request.headers).status_code


@pytest.mark.parametrize("source", FLASK, ids=["sdk", "standardwebhooks"])
def test_the_flask_receivers_take_what_is_genuine_and_nothing_else(source: str, secret: str) -> None:
    app = flask_app(source)
    assert answer_of(app, Request.signed(secret)) == 204
    assert answer_of(app, Request.signed(new_secret(), secret)) == 204, "during a rotation"
    for what, request in forgeries(secret).items():
        assert answer_of(app, request) == 400, what


def test_the_first_receiver_keeps_each_webhook_once(secret: str) -> None:
    app = flask_app(FLASK[0])
    for _ in range(3):
        assert answer_of(app, Request.signed(secret)) == 204
    with closing(sqlite3.connect("inbox.db")) as inbox:
        rows = inbox.execute("SELECT id, type, data FROM inbox").fetchall()
    assert [(id, type) for id, type, _ in rows] == [("dlv_" + "1" * 32, "job.completed")]
    assert orjson.loads(rows[0][2]) == orjson.loads(BODY)["data"]


needs_openssl = pytest.mark.skipif(
    not (shutil.which("bash") and shutil.which("openssl")), reason="the snippet uses bash and openssl"
)


def in_shell(script: str, folder: Path, **variables: str) -> str:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


@needs_openssl
def test_the_shell_tells_the_genuine_from_the_forged(secret: str, tmp_path: Path) -> None:
    assert in_shell(EXAMPLE + OPENSSL, tmp_path) == "genuine"

    def said(request: Request) -> str:
        (tmp_path / "body.json").write_bytes(request.body)
        names = {"id": "webhook-id", "timestamp": "webhook-timestamp", "signature": "webhook-signature"}
        variables = {name: request.headers[header] for name, header in names.items()}
        return in_shell(OPENSSL, tmp_path, WEBHOOK_SECRET=secret, **variables)

    assert said(Request.signed(secret)) == "genuine"
    assert said(Request.signed(new_secret(), secret)) == "genuine"
    for what in ("a changed body", "JSON written again", "another id", "another secret"):
        assert said(forgeries(secret)[what]).startswith("not signed"), what


@pytest.fixture
def node_receiver(secret: str, tmp_path: Path) -> Iterator[str]:
    node.install(tmp_path)
    # As in an application that has no `"type": "module"`.
    (tmp_path / "receiver.cjs").write_text(NODE)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        ["node", "receiver.cjs"],
        cwd=tmp_path,
        env={**os.environ, "PORT": str(port), "WEBHOOK_SECRET": secret},
        stdout=subprocess.DEVNULL,
    ) as process:
        try:
            wait_until(lambda: listens(port), 15, "the node receiver")
            yield f"http://127.0.0.1:{port}/hook"
        finally:
            process.terminate()


def listens(port: int) -> bool:
    with closing(socket.socket()) as knock:
        return knock.connect_ex(("127.0.0.1", port)) == 0


def test_the_node_receiver_takes_what_is_genuine_and_nothing_else(node_receiver: str, secret: str) -> None:
    def answered(request: Request) -> int:
        answer = requests.post(node_receiver, data=request.body, headers=request.headers, timeout=10)
        return answer.status_code

    assert answered(Request.signed(secret)) == 204
    assert answered(Request.signed(new_secret(), secret)) == 204
    for what, request in forgeries(secret).items():
        assert answered(request) == 400, what


def test_what_the_guide_lists_is_what_the_code_has() -> None:
    text = GUIDE.read_text()
    for name in (*Event, *TryError):
        assert f"`{name.value}`" in text
    for event in SUBSCRIBABLE:
        assert f"| `{event.value}`" in text or f", `{event.value}`" in text
    assert f"A tenant may have {MOST_ENDPOINTS} endpoints" in text
    schedule = next(line for line in text.splitlines() if line.startswith("| After the one before |"))
    units = {"s": 1, "min": 60, "h": 3600}
    told = [cell.strip() for cell in schedule.split("|")[2:-1]]
    assert told.pop(0) == "at once"
    assert [int(n) * units[unit] for n, unit in (cell.split() for cell in told)] == list(DELAYS_S[1:])
