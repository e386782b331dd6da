"""A plugin, `-p tests.support.pooled`: every database is reached by PgBouncer in transaction mode.

Its pool is smaller than the pools of those who use it, so that connections change hands all the time.
"""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

from app.embedded.ports import Ports
from tests.support.debian import program
from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until

CONFIG = """[databases]
* = host=127.0.0.1 port={postgres_port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
pool_mode = transaction
default_pool_size = 2
max_client_conn = 500
logfile = {folder}/log
pidfile = {folder}/pid
"""

LIMITS = ("statement_timeout = '10s'", "lock_timeout = '5s'", "idle_in_transaction_session_timeout = '30s'")
"""What a direct connection is told by us, the role is told instead: docs/guides/operate.md."""

_direct = PostgresServer.database
_running: dict[int, tuple[int, "subprocess.Popen[bytes]", Path]] = {}


@contextlib.contextmanager
def _database(self: PostgresServer, template: str = "template1") -> Iterator[str]:
    with _direct(self, template) as url:
        if self.port not in _running:
            _running[self.port] = _start(self)
        yield url.replace(f":{self.port}/", f":{_running[self.port][0]}/") + "?pooler=transaction"


def _start(server: PostgresServer) -> tuple[int, "subprocess.Popen[bytes]", Path]:
    user, password = psycopg.conninfo.conninfo_to_dict(server.admin_url)["user"], "for-tests-only"
    for limit in LIMITS:
        server.execute(f"ALTER ROLE {user} SET {limit}")
    bouncer = program("pgbouncer", "pgbouncer", "libc-ares2")
    port = Ports().take()
    folder = Path(tempfile.mkdtemp(prefix="pgbouncer-"))
    (folder / "users").write_text(f'"{user}" "{password}"\n')
    config = folder / "pgbouncer.ini"
    config.write_text(CONFIG.format(postgres_port=server.port, port=port, folder=folder))
    command = [bouncer.path, str(config)]
    if os.geteuid() == 0:  # it refuses to be root
        for path in (folder, *folder.iterdir()):
            shutil.chown(path, "nobody")
        command[1:1] = ["-u", "nobody"]
    process = subprocess.Popen(command, env=bouncer.environment, stderr=subprocess.DEVNULL)
    wait_until(
        lambda: _answers(server.url("postgres").replace(f":{server.port}/", f":{port}/")), 20, "PgBouncer"
    )
    return port, process, folder


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def pytest_configure() -> None:
    """Before anything is collected."""
    PostgresServer.database = _database  # type: ignore[method-assign]


def pytest_unconfigure(config: Any) -> None:
    """After the last test."""
    for _, process, folder in _running.values():
        process.terminate()
        process.wait(20)
        shutil.rmtree(folder)
