"""supervisord: its configuration, starting it, asking it, and stopping it."""

import os
import resource
import shlex
import socket
import subprocess
import sys
import xmlrpc.client
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

from app.embedded import reaper
from app.embedded.child import wrap
from app.embedded.errors import StackError
from app.embedded.program import Program
from app.embedded.state import StateDir, write_private

_OPEN_FILES = 8192
_ANSWER_S = 10.0
_LOG_BYTES = "10MB"
_LOG_BACKUPS = 3

# A program is tried again for ever, after a pause that grows by a second each time.
_RETRIES = 1_000_000


@dataclass(frozen=True)
class ProcessInfo:
    """What supervisord knows of one program. `pid` is 0 when it does not run."""

    name: str
    pid: int
    state: str
    started: int


class Supervisor:
    """The supervisord of one state dir, whether it runs or not."""

    def __init__(self, state: StateDir) -> None:
        self._state = state

    def start(
        self, programs: Iterable[Program], environ: Mapping[str, str], *, attached: bool
    ) -> subprocess.Popen[bytes]:
        """Start supervisord, which starts nothing yet. Attached, it ends with this process."""
        write_private(self._state.supervisor_conf, render(list(programs), self._state))
        command = [sys.executable, "-m", "supervisor.supervisord", "--nodaemon"]
        command += ["-c", str(self._state.supervisor_conf)]
        log = self._state.log("supervisord.start")
        write_private(log, "")
        with log.open("wb") as output:
            return subprocess.Popen(
                wrap(command) if attached else command,
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # Ctrl-C is for `up`, which then stops everything in order.
                start_new_session=True,
                umask=0o077,
                cwd=self._state.root,
            )

    def is_running(self) -> bool:
        """Whether there is a supervisord that answers, even one that is about to end."""
        try:
            self._call("getState")
        except _NoAnswer:
            return False
        except StackError:
            # While it stops what it runs, it refuses every call.
            return True
        return True

    def processes(self) -> list[ProcessInfo]:
        """Every program, servers first."""
        found = self._call("getAllProcessInfo")
        return [
            ProcessInfo(
                name=item["name"],
                pid=item["pid"],
                state=item["statename"],
                started=item["start"],
            )
            for item in sorted(found, key=lambda item: _GROUPS.index(item["group"]))
        ]

    def start_group(self, group: str) -> None:
        """Start the programs of a group. Returns at once."""
        self._call("startProcessGroup", group, False)

    @staticmethod
    def machine(pool: str, number: int) -> str:
        """The name of a pool's process. `number` counts from 1."""
        return f"worker-{pool}-{number}"

    def start_machine(self, name: str) -> None:
        """Start a process of a pool. Returns at once."""
        self._call("startProcess", f"{MACHINES}:{name}", False)

    def stop_machine(self, name: str) -> None:
        """Ask a process of a pool to stop. Returns at once."""
        self._call("stopProcess", f"{MACHINES}:{name}", False)

    def shutdown(self) -> None:
        """Stop everything, servers last, and supervisord itself. Returns at once."""
        self._call("shutdown")

    def _call(self, method: str, *arguments: Any) -> Any:
        transport = _UnixTransport(str(self._state.supervisor_socket))
        try:
            with xmlrpc.client.ServerProxy("http://localhost", transport=transport) as proxy:
                return getattr(proxy.supervisor, method)(*arguments)
        except xmlrpc.client.Fault as fault:
            raise StackError(f"supervisord refuses {method}: {fault.faultString}") from fault
        except (OSError, HTTPException, xmlrpc.client.Error) as error:
            raise _NoAnswer("supervisord does not answer") from error


class _NoAnswer(StackError):
    """Nobody is there."""


class _UnixConnection(HTTPConnection):
    """HTTP over a Unix socket. A supervisor that is stopped or stuck must not hold us up for ever."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_ANSWER_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class _UnixTransport(xmlrpc.client.Transport):
    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def make_connection(self, _host: object) -> HTTPConnection:
        return _UnixConnection(self._path)


SERVERS = "servers"
SERVICES = "services"
MACHINES = "machines"
"""Processes of pools, which the scaler starts and stops."""
_GROUPS = ["reaper", SERVERS, SERVICES, MACHINES]


def render(programs: Sequence[Program], state: StateDir) -> str:
    """supervisord's configuration. Groups are stopped one after the other, the servers last."""
    hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    open_files = _OPEN_FILES if hard_limit < 0 else min(_OPEN_FILES, hard_limit)
    sections: dict[str, dict[str, Any]] = {
        "supervisord": {
            "logfile": state.log("supervisord"),
            "logfile_maxbytes": _LOG_BYTES,
            "logfile_backups": _LOG_BACKUPS,
            "pidfile": state.supervisor_pid,
            "childlogdir": state.logs,
            "minfds": open_files,
            "minprocs": 1,
            "silent": "true",
        },
        "unix_http_server": {"file": state.supervisor_socket, "chmod": "0600"},
        "rpcinterface:supervisor": {
            "supervisor.rpcinterface_factory": "supervisor.rpcinterface:make_main_rpcinterface"
        },
        "eventlistener:reaper": {
            "command": shlex.join(wrap(reaper.command())),
            "events": reaper.EVENTS,
            "priority": 0,
            "stdout_logfile": "NONE",
            "stderr_logfile": state.log("reaper"),
        },
    }
    if os.geteuid() == 0:
        sections["supervisord"]["user"] = "root"
    for number, group in enumerate((SERVERS, SERVICES, MACHINES), start=1):
        members = [program for program in programs if _group(program) == group]
        if members:
            names = ",".join(program.name for program in members)
            sections[f"group:{group}"] = {"programs": names, "priority": number}
        for program in members:
            sections[f"program:{program.name}"] = _section(program, state)
    return "\n".join(
        f"[{title}]\n" + "".join(f"{key}={_escape(value)}\n" for key, value in body.items())
        for title, body in sections.items()
    )


def _group(program: Program) -> str:
    if program.server:
        return SERVERS
    return MACHINES if program.machine else SERVICES


def _section(program: Program, state: StateDir) -> dict[str, Any]:
    return {
        "command": shlex.join(program.argv),
        "environment": ",".join(f'{key}="{value}"' for key, value in program.environment.items()),
        "directory": state.root,
        "autostart": "false",
        # A worker of a pool that drained has ended on purpose.
        "autorestart": "unexpected" if program.machine else "true",
        "exitcodes": "0",
        "startsecs": 2,
        "startretries": _RETRIES,
        "stopsignal": program.stop_signal.name.removeprefix("SIG"),
        "stopwaitsecs": program.stop_wait_s,
        # A Celery parent stops its children itself, in good order; only the kill goes to all.
        "stopasgroup": "false",
        "killasgroup": "true",
        "redirect_stderr": "true",
        "stdout_logfile": state.log(program.name),
        "stdout_logfile_maxbytes": _LOG_BYTES,
        "stdout_logfile_backups": _LOG_BACKUPS,
    }


def _escape(value: object) -> str:
    return str(value).replace("%", "%%")
