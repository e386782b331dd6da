"""What a provider finds, and what a provider is: one suite in tests/conformance holds all of them to it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Kind(StrEnum):
    """What the cloud says: the machine goes, or it may go soon."""

    INTERRUPTION = "interruption"
    REBALANCE = "rebalance"


@dataclass(frozen=True, slots=True)
class Notice:
    """The cloud's word that this machine will be taken away."""

    kind: Kind
    left_s: float | None
    """Seconds from now until it goes; None if that is not said."""
    what: str
    """What the cloud calls it, for the log."""


class Unreadable(Exception):
    """The cloud's answer could not be had or understood; the message says why, without its content."""


class Provider(Protocol):
    """Where notices come from. Used by one thread."""

    def look(self) -> Notice | None:
        """The most urgent notice that stands now. May hold for some seconds, never for long.

        Raises `Unreadable`: then nothing is known, which is no notice.
        """

    def left(self) -> None:
        """The worker has left: tell the cloud, if it wants to know. Raises `Unreadable`."""
