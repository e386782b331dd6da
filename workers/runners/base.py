"""The runner interface: one suite in tests/conformance holds every implementation to it."""

from dataclasses import dataclass
from typing import Any, Protocol

from app.domain.cost import CostModel
from app.domain.model import Context, ModelSpec
from app.domain.planning import Caps


@dataclass(frozen=True, slots=True)
class Ran:
    """One micro-batch's outputs, as JSON text or the exception that stands for one, and the device's time."""

    outputs: list[bytes | Exception | None]
    """One per input, in order. `None`: the item was canceled and the model stopped."""
    device_s: float


class Runner(Protocol):
    """A loaded model version, ready to run."""

    spec: ModelSpec
    caps: Caps
    """The largest micro-batch it takes; shrinks for good when the device runs out of memory."""
    costs: CostModel
    """What its micro-batches cost, learned from those that ran."""

    def read(self, value: Any) -> tuple[Any, int]:
        """The model's own `Input` of a job's input, and its size in units (at least 1).

        Raises `JobError` with code `invalid_input` when the model refuses it.
        """

    def run(self, values: list[Any], context: Context) -> Ran:
        """One forward pass over values from `read`. Raises what the model raises."""

    def free(self) -> None:
        """Give back memory that is only kept for later, so that a smaller micro-batch has all of it."""

    def shrink(self, items: int, padded_units: int) -> None:
        """This size was too much for the memory there is: take at most half from now on."""

    def close(self) -> None:
        """Let go of the model's memory."""
