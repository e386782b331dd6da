"""Machines that are processes of the embedded stack: `up` declares as many as there may be, stopped."""

from collections.abc import Collection, Sequence
from pathlib import Path

from app.db.pools import PoolState
from app.domain.pools import Pool
from app.embedded.errors import StackError
from app.embedded.state import StateDir
from app.embedded.supervisor import Supervisor
from workers.scaling.executor import ExecutorError, Machine, MachineState

_STATES = {
    "STARTING": MachineState.STARTING,
    "BACKOFF": MachineState.STARTING,
    "RUNNING": MachineState.RUNNING,
    "STOPPING": MachineState.STOPPING,
}


class LocalExecutor:
    """See `Executor`. Asks supervisord, which sends SIGTERM and waits as long as it was told by `up`."""

    def __init__(self, pool: Pool, state_dir: Path) -> None:
        self._pool = pool
        self._supervisor = Supervisor(StateDir(state_dir))

    def machines(self) -> Sequence[Machine]:
        return [Machine(id, _STATES[state]) for id, state in self._all().items() if state in _STATES]

    def grow(self, machines: int) -> None:
        free = [id for id, state in self._all().items() if state not in _STATES]
        for id in free[:machines]:
            self._ask("start", id)

    def retire(self, ids: Collection[str]) -> None:
        running = {machine.id for machine in self.machines() if machine.state is not MachineState.STOPPING}
        for id in sorted(running & set(ids)):
            self._ask("stop", id)

    def protect(self, staying: Collection[str]) -> None:
        """Nobody else scales in."""

    def report(self, state: PoolState) -> None:
        """`headracectl pools` shows it."""

    def _all(self) -> dict[str, str]:
        """By id, supervisord's word for what it does."""
        names = {Supervisor.machine(self._pool.name, number): number for number in self._numbers()}
        try:
            found = {info.name: info.state for info in self._supervisor.processes()}
        except StackError as error:
            raise ExecutorError(str(error)) from error
        return {f"{self._pool.name}-{number}": found[name] for name, number in names.items() if name in found}

    def _numbers(self) -> range:
        return range(1, self._pool.max + 1)

    def _ask(self, what: str, id: str) -> None:
        name = f"worker-{id}"
        try:
            if what == "start":
                self._supervisor.start_machine(name)
            else:
                self._supervisor.stop_machine(name)
        except StackError as error:
            raise ExecutorError(str(error)) from error
