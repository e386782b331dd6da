"""Whole stacks for tests, run as a user would: by `headracectl`, in processes of their own."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
import requests

from app.embedded import leftovers
from app.embedded.stack import Process, Stack
from app.embedded.state import StateDir
from tests.support.waiting import wait_until

HEADRACECTL = str(Path(sys.executable).with_name("headracectl"))

_UP_S = 150
_DOWN_S = 100


class RunningStack:
    """A stack in a state dir of its own. Its addresses are read anew after each `up`."""

    def __init__(self, state_dir: Path, environ: Mapping[str, str] | None = None) -> None:
        self.state_dir = state_dir
        self._environ = dict(environ or {})

    def up(self, *, port: int | None = None, workers: Sequence[str] = (), models: Sequence[str] = ()) -> None:
        """Start it, or start it again with the same data; returns when it is ready."""
        arguments = ["up", "--detach"]
        if port is not None:
            arguments += ["--port", str(port)]
        for worker in workers:
            arguments += ["--worker", worker]
        for model in models:
            arguments += ["--model", model]
        done = self.headracectl(*arguments, timeout_s=_UP_S)
        assert done.returncode == 0, f"up failed:\n{done.stdout}\n{done.stderr}"

    def down(self) -> None:
        """Stop it."""
        done = self.headracectl("down", timeout_s=_DOWN_S)
        assert done.returncode == 0, f"down failed:\n{done.stdout}\n{done.stderr}"

    def headracectl(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run an operator command on this stack."""
        return subprocess.run(
            [HEADRACECTL, *arguments, "--state-dir", str(self.state_dir)],
            env={**os.environ, **self._environ},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    @property
    def env(self) -> dict[str, str]:
        """What `DIR/env` says."""
        return StateDir(self.state_dir).read_env()

    @property
    def url(self) -> str:
        return self.env["HEADRACE_URL"]

    @property
    def api_key(self) -> str:
        return self.env["HEADRACE_API_KEY"]

    @property
    def database_url(self) -> str:
        return self.env["HEADRACE_DATABASE_URL"]

    @property
    def redis_url(self) -> str:
        return self.env["HEADRACE_REDIS_URL"]

    @property
    def flower_url(self) -> str:
        return self.env["HEADRACE_FLOWER_URL"]

    def processes(self) -> list[Process]:
        """What `headracectl status` lists, without the start of a Python each time it is looked at."""
        return Stack(StateDir(self.state_dir)).processes()

    def pid(self, name: str) -> int | None:
        """The process id of `name` now; None while it does not run."""
        return next((item.pid for item in self.processes() if item.name == name), None)

    def kill(self, name: str, how: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to the process `name` and return the process id it had."""
        pid = self.pid(name)
        assert pid, f"{name} does not run"
        os.kill(pid, how)
        return pid

    def remains(self) -> list[psutil.Process]:
        """Every process of this stack there is, supervised or not."""
        return leftovers.find(StateDir(self.state_dir).root, StateDir(self.state_dir).postgres)

    def request(self, method: str, path: str, **arguments: Any) -> requests.Response:
        """An HTTP request with the stack's key."""
        headers = {"Authorization": f"Bearer {self.api_key}", **arguments.pop("headers", {})}
        return requests.request(
            method, f"{self.url}{path}", headers=headers, timeout=arguments.pop("timeout", 30), **arguments
        )

    def is_ready(self) -> bool:
        """Whether the API can serve."""
        try:
            return requests.get(f"{self.url}/readyz", timeout=10).ok
        except requests.RequestException:
            return False

    def wait_ready(self, deadline_s: float = 60) -> None:
        """Wait until all processes run and the API can serve, as after a crash."""
        wait_until(
            lambda: all(item.state == "RUNNING" for item in self.processes()),
            deadline_s,
            "all processes to run",
        )
        wait_until(self.is_ready, deadline_s, "the API to be ready")


@contextlib.contextmanager
def stack(
    state_dir: Path, *, environ: Mapping[str, str] | None = None, start: bool = True, **options: Any
) -> Iterator[RunningStack]:
    """A stack in `state_dir`, started with `options` of `RunningStack.up`, and stopped at the end."""
    running = RunningStack(state_dir, environ)
    try:
        if start:
            running.up(**options)
        yield running
    finally:
        running.down()
