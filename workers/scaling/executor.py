"""What every executor can do. One conformance suite holds for all: tests/conformance/test_executors.py."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from app.db.pools import PoolState
from app.errors import HeadraceError


class ExecutorError(HeadraceError):
    """The executor's other side refuses, or can't be reached. The next tick tries again."""

    code = "executor_failed"
    retryable = True


class MachineState(StrEnum):
    """STARTING: asked for, or coming up. STOPPING: on its way out; it counts as none."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class Machine:
    """A process, pod, task or instance. Its worker says the same `id` by `HEADRACE_WORKER_MACHINE`."""

    id: str
    state: MachineState


class Executor(Protocol):
    """Starts and stops the machines of one pool. Every call may raise `ExecutorError`.

    Stopping is SIGTERM, which drains the worker, with time to do so.
    """

    def machines(self) -> Sequence[Machine]:
        """All there are, those included that were only asked for if the other side tells of them."""

    def grow(self, machines: int) -> None:
        """Ask for so many more. May bring fewer, or none."""

    def retire(self, ids: Collection[str]) -> None:
        """Stop these and no others, and have nothing put in their place. None of them holds a lease.
        Repeating it for one that is stopping already is harmless.
        """

    def protect(self, staying: Collection[str]) -> None:
        """None of these should be stopped by anyone: they work, or hold leases while they drain."""

    def report(self, state: PoolState) -> None:
        """What was decided, for a dashboard or an autoscaler on the other side."""
