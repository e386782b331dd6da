"""A Celery worker of one child, in processes of its own, without a stack around it."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from app.embedded.program import Program
from app.settings import Settings
from tests.support import servers


@contextlib.contextmanager
def lone_worker(settings: Settings, log: Path, **variables: str) -> Iterator["subprocess.Popen[bytes]"]:
    """Its parent's process. It serves `cpu.interactive` with these settings and variables."""
    told = {
        "HEADRACE_DATABASE_URL": settings.database_url.get_secret_value(),
        "HEADRACE_REDIS_URL": settings.redis_url.get_secret_value(),
        "HEADRACE_SECRET_KEY": settings.secret_key.get_secret_value(),
        **variables,
    }
    command = ["env", *(f"{name}={value}" for name, value in told.items())]
    command += [sys.executable, "-m", "celery", "-A", "workers.celery_app", "worker", "-n", "lone@%h"]
    command += ["-Q", "cpu.interactive", "-c", "1", "-E", "--without-mingle", "--without-gossip"]
    with servers.run(Program("worker", command), log) as process:
        yield process
