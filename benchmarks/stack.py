"""The stack that is measured: one of its own, in a folder that is thrown away."""

import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from app.embedded.state import StateDir

_UNFINISHED = "SELECT (SELECT count(*) FROM job_ready) + (SELECT count(*) FROM job_leases)"
HEADRACECTL = str(Path(sys.executable).with_name("headracectl"))


@dataclass(frozen=True)
class Stack:
    """Where a running stack is reached."""

    url: str
    api_key: str
    database_url: str
    redis_url: str
    state_dir: str

    def unfinished(self) -> int:
        """How many jobs wait or run."""
        with psycopg.connect(self.database_url) as connection:
            row = connection.execute(_UNFINISHED).fetchone()
        assert row is not None
        return int(row[0])

    def headracectl(self, *arguments: str) -> None:
        """Run an operator command on it."""
        command = [HEADRACECTL, *arguments, "--state-dir", self.state_dir]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@contextmanager
def running() -> Iterator[Stack]:
    """A stack as `headracectl up` starts it, stopped at the end; a SIGTERM is such an end."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        state_dir = ["--state-dir", f"{folder}/state"]
        try:
            subprocess.run([HEADRACECTL, "up", "--detach", *state_dir], check=True, stdout=subprocess.DEVNULL)
            env = StateDir(Path(folder, "state")).read_env()
            yield Stack(
                env["HEADRACE_URL"],
                env["HEADRACE_API_KEY"],
                env["HEADRACE_DATABASE_URL"],
                env["HEADRACE_REDIS_URL"],
                f"{folder}/state",
            )
        finally:
            subprocess.run([HEADRACECTL, "down", *state_dir], check=False, stdout=subprocess.DEVNULL)
