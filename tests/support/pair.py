"""Two Postgres servers, one a synchronous standby of the other, and what an operator does with them."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil

from app.embedded import account, reach
from app.embedded.child import wrap
from app.embedded.ports import LOOPBACK, Ports
from app.embedded.postgres import API_USER, DATABASE, USER, Postgres, binaries
from tests.support.servers import PASSWORD, PostgresServer, run
from tests.support.waiting import wait_until


class Pair:
    """The leader writes; what it commits is on the follower's disk, too."""

    def __init__(self, folder: Path, held: contextlib.ExitStack) -> None:
        """`held`: until its end the servers run."""
        ports = Ports()
        self._folder, self._held = folder, held
        self._leader, self._follower = (
            PostgresServer(Postgres(folder / name, PASSWORD), ports.take()) for name in ("one", "two")
        )
        self._leader.server.prepare()
        self._pids: dict[int, int] = {}
        self._start(self._leader)
        self._leader.execute(f"CREATE DATABASE {DATABASE}")
        self.follow()

    def environ(self) -> dict[str, str]:
        """The settings of a stack that finds whichever server may write."""
        return {"HEADRACE_DATABASE_URL": self._url(USER), "HEADRACE_API_DATABASE_URL": self._url(API_USER)}

    def _url(self, user: str) -> str:
        places = ",".join(f"{LOOPBACK}:{server.port}" for server in (self._leader, self._follower))
        return f"postgresql://{user}:{PASSWORD}@{places}/{DATABASE}?target_session_attrs=read-write"

    def fail_over(self) -> None:
        """The leader's machine is lost: every process of it dies. The follower leads from now on."""
        lost = psutil.Process(self._pids[self._leader.port])
        for process in (lost, *lost.children()):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self._leader, self._follower = self._follower, self._leader
        self._leader.execute("SELECT pg_promote()")

    def follow(self) -> None:
        """Make the server that is lost, or never was, a copy of the leader, and have commits wait for it."""
        data = self._follower.server.data
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(mode=0o700)
        user = account.for_postgres()
        if user is not None:
            account.give(data, user)
            account.open_path(data)
        command = [str(binaries() / "pg_basebackup"), "-D", str(data), "-R", "-c", "fast"]
        command += ["-d", self._leader.admin_url]
        subprocess.run(wrap(command, user=user, keep_env=[]), cwd="/", check=True, capture_output=True)
        self._start(self._follower)
        # Not before: the copy would have it, and once it led would wait for a server that nobody has made.
        self._leader.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        self._leader.execute("SELECT pg_reload_conf()")
        wait_until(self._is_followed, 30, "the follower to have what is committed")

    def _start(self, server: PostgresServer) -> None:
        log = self._folder / f"{server.server.data.name}.log"
        process = self._held.enter_context(run(server.server.program(server.port), log))
        self._pids[server.port] = process.pid
        wait_until(lambda: reach.postgres(server.admin_url) is None, 30, "Postgres")

    def _is_followed(self) -> bool:
        return bool(self._leader.execute("SELECT 1 FROM pg_stat_replication WHERE sync_state = 'sync'"))


@contextlib.contextmanager
def pair(folder: Path) -> Iterator[Pair]:
    """Both servers, with an empty database, until the end of the block."""
    folder.mkdir(parents=True)
    with contextlib.ExitStack() as held:
        yield Pair(folder, held)
