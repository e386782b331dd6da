"""A user's model is one class; this is what it may say, and what Headrace keeps of it.

class Sentiment(Model):
    class Input(BaseModel):
        text: str
    class Output(BaseModel):
        label: str

    def load(self, device): ...
    def predict(self, inputs): ...
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from pydantic import BaseModel

from app.domain.lanes import Device
from app.domain.media import Media
from app.domain.variants import DEFAULT_VARIANT

__all__ = ["Context", "Media", "Model", "ModelSpec", "ModelVersion"]


class Context(Protocol):
    """What a long prediction may use while it runs. One context serves one micro-batch."""

    def progress(self, index: int, fraction: float, message: str | None = None) -> None:
        """Report that item `index` is `fraction` (0 to 1) done. Cheap: written at most once a second."""

    def canceled(self, index: int) -> bool:
        """Whether item `index` was canceled: stop and return `None` for it. Cheap to ask often."""


class Model:
    """Base class of every model. Set the attributes, fill in `load` and `predict`.

    The class is instantiated once per worker child, in the child; `load` is called before anything
    else. Nothing of it runs in the API, which validates with the JSON schema of `Input`.
    """

    name: ClassVar[str]
    """How clients name it: lowercase letters, digits, `-`, `_`, `.`"""
    version: ClassVar[str] = ""
    """Empty: the first 8 hex digits of the source file's SHA-256."""
    Input: ClassVar[type[BaseModel]]
    Output: ClassVar[type[BaseModel]]

    runs_on: ClassVar[Device] = Device.CPU
    """Which workers get it: `cpu`, `gpu` or `remote`."""
    unit: ClassVar[str] = "items"
    """What `measure` counts: `tokens`, `pixels`, `seconds`…"""
    max_batch_items: ClassVar[int] = 32
    max_batch_units: ClassVar[int | None] = None
    """Most units in one micro-batch, counting padding; None is no limit."""
    execution_timeout_s: ClassVar[float] = 60.0
    """Longest a micro-batch may run, unless the job's policy says less."""
    memory_mb: ClassVar[int] = 256
    """About how much a loaded copy takes, for the child's memory budget."""

    variant: ClassVar[str] = DEFAULT_VARIANT
    """How it is computed: one of `app.domain.variants.Variant`."""
    examples: ClassVar[Sequence[dict[str, Any]]] = ()
    """Inputs that succeed, of the sizes that are usual. Each load runs them to warm up, and
    `headracectl models tune` measures with them unless it is given a sample."""

    def load(self, device: str) -> None:
        """Load weights onto `device` (`cpu`, `cuda:0`, `mps`). Called once, before the first predict."""

    def measure(self, value: Any) -> int:  # noqa: ARG002 - the default measures every input alike
        """The size of one input in `unit`s, at least 1. Must be cheap: it runs for every job."""
        return 1

    def prepare(self, values: list[Any]) -> Any:
        """CPU work before the device: tokenize, decode, collate."""
        return values

    def forward(self, prepared: Any, context: Context) -> Any:
        """The device's part. Models that need no phases fill in `predict` and leave this alone."""
        if _takes_context(self):
            return self.predict(prepared, context)  # type: ignore[call-arg]
        return self.predict(prepared)

    def finish(self, raw: Any) -> list[Any]:
        """CPU work after the device. Returns one output per input, in the same order."""
        # Each of these can be iterated, or fails in words that say nothing of what a model should return.
        if raw is None or isinstance(raw, BaseModel | Mapping | str | bytes):
            raise TypeError(f"predict must return a list, one output per input, not {type(raw).__name__}")
        return list(raw)

    def predict(self, values: list[Any]) -> list[Any]:  # noqa: ARG002 - what models fill in
        """One output (`Output`, or what it validates) per input, in the same order.

        An item may be an exception instead of an output: that job fails alone. Raising fails the
        micro-batch, which is then bisected to find the guilty item. A second parameter named
        `context` gets a `Context`.
        """
        raise TypeError(f"{type(self).__name__} must define predict() or forward()")


def _takes_context(model: Model) -> bool:
    code = model.predict.__func__.__code__  # type: ignore[attr-defined]
    return "context" in code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What the registry keeps of a model class: all that API and queue need, and where the code is."""

    name: str
    version: str
    source: str
    """`/path/file.py:Class` or `package.module:Class`."""
    source_sha256: str
    device: Device
    unit: str
    max_batch_items: int
    max_batch_units: int | None
    execution_timeout_s: float
    memory_mb: int
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    description: str = ""
    variant: str = DEFAULT_VARIANT
    """How it is computed: one of `app.domain.variants`. A version has one, so a tuned model is its own."""


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """A registered version: its spec and its row's id."""

    id: int
    spec: ModelSpec
