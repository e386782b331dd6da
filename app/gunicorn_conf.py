"""Gunicorn's settings, from ours: `gunicorn -c python:app.gunicorn_conf app.wsgi:application`.

Nothing here may import psycopg, redis or prometheus_client: this runs before gevent patches the
sockets and before the metrics' folder is known.
"""

import atexit
import os
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from gunicorn import util
from gunicorn.http import wsgi

from app.api.server import WholeResponse, problem_response
from app.cores import cores
from app.errors import SettingsError
from app.observability.sharing import share_metrics
from app.settings import load

try:
    _settings = load()
except SettingsError as error:
    for _problem in error.problems:
        print(f"headrace: {_problem}", file=sys.stderr)  # noqa: T201
    sys.exit(3)

bind = _settings.api.bind
if _settings.api.tls_certificate and _settings.api.tls_key:
    certfile, keyfile = str(_settings.api.tls_certificate), str(_settings.api.tls_key)
worker_class = "app.api.server.Worker"
workers = _settings.api.processes or min(2, cores())
# Each held request is a connection; the rest of the places is for requests that are answered at once.
worker_connections = _settings.api.max_waiters + 1000
keepalive = 75
timeout = 60
graceful_timeout = 10
limit_request_line = 8190
# Each process makes its own connections, after the fork.
preload_app = False
accesslog = None
errorlog = "-"
logger_class = "app.api.serverlog.JsonLogger"
loglevel = "warning"


def _write_error(sock: Any, status: int, _reason: str, _message: str) -> None:
    util.write_nonblock(sock, problem_response(status))


# There are no other hooks for what gunicorn refuses by itself, and for how it writes an answer.
util.write_error = _write_error
wsgi.create = partial(wsgi.create, response_class=WholeResponse)


# Whether a process lives is told by the times of a file: on a full or slow disk that must not be in doubt.
_MEMORY = "/dev/shm"  # noqa: S108
if os.access(_MEMORY, os.W_OK):
    worker_tmp_dir = _MEMORY


def _metrics_folder() -> Path:
    if _settings.metrics_dir:
        return _settings.metrics_dir
    folder = Path(tempfile.mkdtemp(prefix="headrace-metrics-"))
    atexit.register(_remove, folder, os.getpid())
    return folder


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # not in the children, which inherit this handler
        shutil.rmtree(folder, ignore_errors=True)


try:
    share_metrics(_metrics_folder())
except OSError as error:
    print(f"headrace: metrics are not shared among processes: {error}", file=sys.stderr)  # noqa: T201


def child_exit(_server: Any, worker: Any) -> None:
    """Forget the gauges of a process that ended."""
    from app.observability.metrics import forget_process

    forget_process(worker.pid)


def worker_exit(_server: Any, _worker: Any) -> None:
    """In the process that ends: send the spans and reports that are left."""
    from app.observability import bugs, tracing

    tracing.shutdown()
    bugs.shutdown()
