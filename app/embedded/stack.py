"""The stack as a whole: start it in order, stop it without a trace, look at it."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import psutil

from app.embedded import leftovers, models, plan, reach, readiness
from app.embedded.errors import StackError
from app.embedded.plan import Options, Plan
from app.embedded.programs import OWN
from app.embedded.readiness import Watch
from app.embedded.state import StateDir
from app.embedded.supervisor import SERVERS, SERVICES, Supervisor

_SUPERVISED_S = 20.0
_READY_S = 120.0
# More than the slowest service and the slowest server may take, one after the other.
_STOP_S = 60.0


@dataclass(frozen=True)
class Process:
    """A line of `status`."""

    name: str
    pid: int | None
    state: str


class Stack:
    """The stack of one state dir."""

    def __init__(self, state: StateDir) -> None:
        self.state = state
        self._supervisor = Supervisor(state)

    def up(
        self,
        options: Options,
        environ: Mapping[str, str],
        *,
        attached: bool,
        say: Callable[[str], None],
    ) -> tuple[Mapping[str, str], subprocess.Popen[bytes]]:
        """Start everything and return when it is ready: `DIR/env`, and the supervisor's process.

        Whatever goes wrong, what was started is stopped again. Attached, the stack ends with this
        process. `say` is told what the user should know.
        """
        sources = models.parse(options.models)
        self.state.create()
        with self.state.locked():
            if self._supervisor.is_running():
                more = ", `headracectl models register` adds a model to it" if options.models else ""
                raise StackError(
                    f"a stack already runs in {self.state.root}; `headracectl down` stops it{more}"
                )
            leftovers.end(self.state.root, self.state.postgres)
            planned = plan.make(self.state, options, environ)
            for folder in set(planned.opened) - {self.state.root}:
                say(f"note: {folder} can now be passed through (o+x) by Postgres's user")
            self._check_servers_of_the_user(planned)
            _empty(self.state)
            try:
                supervisor = self._supervisor.start(planned.programs, planned.environ, attached=attached)
                return self._bring_up(planned, sources), supervisor
            except BaseException:
                self._stop()
                raise

    def down(self) -> bool:
        """Stop everything, whatever state it is in. Returns whether there was anything to stop."""
        if not self.state.root.is_dir():
            return False
        with self.state.locked():
            return self._stop()

    def is_running(self) -> bool:
        """Whether there is a supervisor that answers."""
        return self.state.root.is_dir() and self._supervisor.is_running()

    def processes(self) -> list[Process]:
        """What runs, children of workers included. Empty when the stack is down."""
        if not self.is_running():
            return []
        found = []
        for info in self._supervisor.processes():
            found.append(Process(info.name, info.pid or None, info.state))
            if info.pid and info.name.startswith(("worker-", *(worker.process for worker in OWN))):
                found += _children(info.name, info.pid)
        return found

    def _check_servers_of_the_user(self, planned: Plan) -> None:
        embedded = {program.name for program in planned.programs if program.server}
        if "postgres" not in embedded:
            reach.postgres(planned.env["HEADRACE_DATABASE_URL"])
        if "valkey" not in embedded:
            reach.valkey(planned.env["HEADRACE_REDIS_URL"])

    def _bring_up(self, planned: Plan, sources: list[str]) -> Mapping[str, str]:
        begun = Watch(self.state, self._supervisor, _SUPERVISED_S)
        begun.until(partial(readiness.running, self._supervisor), "supervisord.start")
        watch = Watch(self.state, self._supervisor, _READY_S)
        if any(program.server for program in planned.programs):
            self._supervisor.start_group(SERVERS)
        if planned.postgres is not None:
            server, port = planned.postgres
            watch.until(partial(reach.postgres, server.url(port, "postgres")), "postgres")
            server.create_database(port)
        watch.until(partial(reach.valkey, planned.env["HEADRACE_REDIS_URL"]), "valkey")

        env = _provision(planned, sources)
        self.state.write_env(env)
        self._supervisor.start_group(SERVICES)
        watch.until(partial(readiness.api_ready, env["HEADRACE_URL"]), "api")
        for worker in [*planned.workers, *OWN]:
            registered = partial(
                readiness.worker_ready, env["HEADRACE_DATABASE_URL"], self._supervisor, worker
            )
            watch.until(registered, worker.process)
        return env

    def _stop(self) -> bool:
        was_running = self._supervisor.is_running()
        if was_running:
            with contextlib.suppress(StackError):
                self._supervisor.shutdown()
            deadline = time.monotonic() + _STOP_S
            while self._supervisor.is_running() and time.monotonic() < deadline:
                time.sleep(0.05)
        killed = leftovers.end(self.state.root, self.state.postgres)
        remaining = leftovers.find(self.state.root, self.state.postgres)
        if remaining:
            pids = ", ".join(str(process.pid) for process in remaining)
            raise StackError(f"processes of the stack can't be stopped: {pids}")
        self.state.forget_socket()
        return was_running or bool(killed)


def _provision(planned: Plan, sources: list[str]) -> dict[str, str]:
    """Bring the schema up to date, and see that there are a key and the models."""
    from app import settings
    from app.db.migrate import upgrade
    from app.intake.provision import ACTOR, ensure_tenant_and_key
    from app.intake.registry import register_source

    upgrade(planned.env["HEADRACE_DATABASE_URL"], api_url=planned.env.get("HEADRACE_API_DATABASE_URL"))
    loaded = settings.load(planned.environ)
    key = ensure_tenant_and_key(loaded, key=planned.env["HEADRACE_API_KEY"] or None)
    for source in models.examples():
        # Their code comes with Headrace and changes with it.
        register_source(loaded, source, replace=True, actor=ACTOR)
    for source in sources:
        register_source(loaded, source, actor=ACTOR)
    return {**planned.env, "HEADRACE_API_KEY": key}


def _empty(state: StateDir) -> None:
    """Drop the metrics of the last run: its process ids mean nothing now."""
    shutil.rmtree(state.metrics, ignore_errors=True)
    state.create()


def _children(name: str, pid: int) -> list[Process]:
    try:
        children = psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [
        Process(f"{name}/child-{number}", child.pid, "RUNNING")
        for number, child in enumerate(children, start=1)
    ]
