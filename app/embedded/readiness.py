"""Wait for parts of a stack, and when one doesn't come, say which and show the end of its log."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from http import HTTPStatus

import psutil
import psycopg
import requests

from app.embedded.errors import StackError
from app.embedded.programs import Worker
from app.embedded.state import StateDir
from app.embedded.supervisor import Supervisor

_POLL_S = 0.1
_STARTS = 4
_LOG_LINES = 15
_LOG_TAIL_BYTES = 16_384


class Watch:
    """Waits under one deadline while it keeps an eye on the processes."""

    def __init__(self, state: StateDir, supervisor: Supervisor, deadline_s: float) -> None:
        self._state = state
        self._supervisor = supervisor
        self._deadline = time.monotonic() + deadline_s
        self._failed_starts: dict[str, set[int]] = defaultdict(set)

    def until(self, probe: Callable[[], None], process: str) -> None:
        """Return once `probe` raises no `StackError`. `process` is whose log tells why it did not."""
        while True:
            try:
                return probe()
            except StackError as error:
                reason = str(error)
            self._give_up_on_failing()
            if time.monotonic() > self._deadline:
                raise StackError(f"{reason}\n{self._tail(process)}")
            time.sleep(_POLL_S)

    def _give_up_on_failing(self) -> None:
        """A program that ends right after each of several starts will not come."""
        if not self._supervisor.is_running():
            return
        for process in self._supervisor.processes():
            if process.state == "BACKOFF":
                starts = self._failed_starts[process.name]
                starts.add(process.started)
                if len(starts) >= _STARTS:
                    raise StackError(f"{process.name} does not start\n{self._tail(process.name)}")

    def _tail(self, process: str) -> str:
        log = self._state.log(process)
        try:
            with log.open("rb") as file:
                file.seek(max(0, log.stat().st_size - _LOG_TAIL_BYTES))
                lines = file.read().decode(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            lines = []
        return "\n".join([f"the end of {log}:", *(f"  {line}" for line in lines)])


def running(supervisor: Supervisor) -> None:
    """supervisord answers."""
    if not supervisor.is_running():
        raise StackError("supervisord does not start")


def api_ready(url: str) -> None:
    """The API can serve."""
    try:
        with requests.Session() as session:
            # A proxy of the environment can't reach our loopback.
            session.trust_env = False
            answer = session.get(f"{url}/readyz", timeout=5)
    except requests.RequestException as error:
        raise StackError("the API does not answer") from error
    if answer.status_code != HTTPStatus.OK:
        raise StackError(f"the API is not ready: {answer.text.strip()[:300]}")


def worker_ready(database_url: str, supervisor: Supervisor, worker: Worker) -> None:
    """A process of this worker has registered. Rows of an earlier run have other process ids."""
    parent = next(item.pid for item in supervisor.processes() if item.name == worker.process)
    try:
        with psycopg.connect(database_url, connect_timeout=5) as connection:
            rows = connection.execute(
                "SELECT pid FROM workers WHERE pool = %s AND state = 'ready'", [worker.name]
            ).fetchall()
    except psycopg.Error as error:
        raise StackError("Postgres does not answer") from error
    if not {pid for (pid,) in rows} & set(_family(parent)):
        raise StackError(f"{worker.process} has not registered")


def _family(pid: int) -> Iterable[int]:
    try:
        children = psutil.Process(pid).children(recursive=True) if pid else []
    except psutil.NoSuchProcess:
        children = []
    return [pid, *(child.pid for child in children)]
