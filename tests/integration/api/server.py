"""The real thing: gunicorn with its gevent workers, in a process of its own."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from app.settings import Settings
from tests.support.waiting import wait_until

COMMAND = [sys.executable, "-m", "gunicorn", "-c", "python:app.gunicorn_conf", "app.wsgi:application"]


@dataclass(frozen=True)
class Server:
    """A running API server."""

    url: str
    process: "subprocess.Popen[bytes]"
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


def environment(settings: Settings, **extra: str) -> dict[str, str]:
    """The variables that make a process have these settings."""
    own = settings.api.database_url
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("HEADRACE_")},
        "HEADRACE_DATABASE_URL": settings.database_url.get_secret_value(),
        **({"HEADRACE_API_DATABASE_URL": own.get_secret_value()} if own else {}),
        "HEADRACE_REDIS_URL": settings.redis_url.get_secret_value(),
        "HEADRACE_SECRET_KEY": settings.secret_key.get_secret_value(),
        **({"HEADRACE_STORAGE_URL": settings.storage_url} if settings.storage_url else {}),
        **extra,
    }


@contextmanager
def serve(settings: Settings, folder: Path, *, root: Path | None = None, **extra: str) -> Iterator[Server]:
    """A server with these settings, ready to answer; stopped at the end. `root`: of its certificate."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    log = folder / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            COMMAND,
            env=environment(settings, HEADRACE_API_BIND=f"127.0.0.1:{port}", **extra),
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    url = f"{'https' if root else 'http'}://127.0.0.1:{port}"
    verify = str(root) if root else True
    try:
        wait_until(lambda: requests.get(f"{url}/livez", timeout=5, verify=verify).ok, 30, "the API server")
        yield Server(url, process, log)
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
