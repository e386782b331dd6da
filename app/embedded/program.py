"""A program of the stack, as the supervisor needs to know it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from signal import SIGTERM, Signals
from types import MappingProxyType

from app.embedded import child


@dataclass(frozen=True)
class Program:
    """One supervised command. `command` holds no secret: every user of the machine can read it."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    # Servers start before everything else and stop after it.
    server: bool = False
    # A process of a pool: the scaler starts and stops it.
    machine: bool = False
    stop_signal: Signals = SIGTERM
    stop_wait_s: int = 10
    # Run as this user; only root can say so.
    user: str | None = None
    # Drop the environment but for these names.
    keep_env: Sequence[str] | None = None

    @property
    def argv(self) -> list[str]:
        """The command line that dies with the process that runs it."""
        return child.wrap(self.command, death_signal=self.stop_signal, user=self.user, keep_env=self.keep_env)
