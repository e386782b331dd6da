"""One Postgres and one Valkey for a whole test session: those of the embedded stack, unsupervised.

They die with pytest, however it ends.
"""

import contextlib
import itertools
import os
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from app.embedded import account, leftovers, reach, valkey
from app.embedded.ports import Ports
from app.embedded.postgres import API_USER, TUNING, Postgres
from app.embedded.program import Program
from tests.support.waiting import wait_until

PASSWORD = "for-tests-only"

# Tests may lose their database with the machine; nobody else's Postgres runs like this.
# One iteration instead of 4,096: checking the password was most of what a connection takes, on both sides.
_FAST = {
    **TUNING,
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "scram_iterations": "1",
}


@dataclass(frozen=True)
class PostgresServer:
    """A server, and how to make and drop databases in it."""

    server: Postgres
    port: int
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @property
    def admin_url(self) -> str:
        """The superuser's URL of the maintenance database."""
        return self.url("postgres")

    def url(self, database: str) -> str:
        """The superuser's URL of `database`."""
        return self.server.url(self.port, database)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run an administrator's statement. Returns its rows, if it has any."""
        with psycopg.connect(self.admin_url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def give(self, folder: Path) -> None:
        """Make a folder the server's own, as when it runs as another user than we do."""
        if (user := account.for_postgres()) is not None:
            account.open_path(folder)
            account.give(folder, user)

    @contextlib.contextmanager
    def database(self, template: str = "template1", options: str = "") -> Iterator[str]:
        """The URL of a new database, a copy of `template`; dropped at the end with its connections."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} {options}")
        try:
            yield self.url(name)
        finally:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")


def api_url(database_url: str) -> str:
    """The same database by the API's role."""
    _, _, place = database_url.rpartition("@")
    return f"postgresql://{API_USER}:{PASSWORD}@{place}"


@contextlib.contextmanager
def postgres(folder: Path) -> Iterator[PostgresServer]:
    """A running Postgres with its data under `folder`."""
    server = Postgres(folder / "postgres", PASSWORD)
    server.prepare(_FAST)
    port = Ports().take()
    with run(server.program(port), folder / "postgres.log"):
        running = PostgresServer(server, port)
        wait_until(lambda: reach.postgres(running.admin_url) is None, 30, "Postgres")
        yield running


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[str]:
    """The URL of a running Valkey."""
    port = Ports().take()
    with run(valkey.program(folder, port, PASSWORD), folder / "valkey.log"):
        url = valkey.url(port, PASSWORD)
        wait_until(lambda: reach.valkey(url) is None, 30, "Valkey")
        yield url


@contextlib.contextmanager
def run(program: Program, log: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """The program's process, stopped at the end."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            program.argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **leftovers.mark(log.parent)},
            # Ctrl-C is for pytest, whose teardown still needs the servers.
            start_new_session=True,
        )
    try:
        yield process
    finally:
        process.send_signal(program.stop_signal)
        try:
            process.wait(program.stop_wait_s)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
