"""Models that tests run, and where the shipped ones are."""

import hashlib
import threading
import time
from pathlib import Path

from pydantic import BaseModel

from app.domain.model import Context, Media, Model
from app.errors import JobError
from app.intake.source import spec_of

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "models"
ECHO_SPEC = spec_of(f"{EXAMPLES / 'echo.py'}:Echo")


class Number(BaseModel):
    """One number."""

    value: float


class _Base(Model):
    Input = Number
    Output = Number
    version = "1"


class Double(_Base):
    """Twice the input. Has three phases, measures by value and asks for small batches."""

    name = "double"
    unit = "ones"
    max_batch_items = 4

    def measure(self, value: Number) -> int:
        return max(1, int(abs(value.value)))

    def prepare(self, values: list[Number]) -> list[float]:
        return [value.value for value in values]

    def forward(self, prepared: list[float], context: Context) -> list[float]:
        return [2 * value for value in prepared]

    def finish(self, raw: list[float]) -> list[dict[str, float]]:
        return [{"value": value} for value in raw]


class Slow(_Base):
    """Takes as many seconds as its input says, one at a time."""

    name = "slow"
    max_batch_items = 1

    def predict(self, values: list[Number]) -> list[Number]:
        time.sleep(values[0].value)
        return values


class RaisesOnNegative(_Base):
    """The whole batch raises if any value is negative: the engine must find out which."""

    name = "raises-on-negative"

    def predict(self, values: list[Number]) -> list[Number]:
        if any(value.value < 0 for value in values):
            raise ArithmeticError("negative")
        return values


class OutOfMemoryError(RuntimeError):
    """Stands for torch.OutOfMemoryError on a machine without a device that can run out."""


class SmallDevice(_Base):
    """A device with room for `room` items."""

    name = "small-device"
    room = 3

    def load(self, device: str) -> None:
        self.sizes: list[int] = []

    def predict(self, values: list[Number]) -> list[Number]:
        self.sizes.append(len(values))
        if len(values) > self.room:
            raise OutOfMemoryError("device out of memory")
        return values


class Greedy(_Base):
    """A negative value needs more memory than there is."""

    name = "greedy"

    def predict(self, values: list[Number]) -> list[Number]:
        if any(value.value < 0 for value in values):
            raise MemoryError
        return values


class ForgetsOne(_Base):
    """Returns one output too few."""

    name = "forgets-one"

    def predict(self, values: list[Number]) -> list[Number]:
        return values[1:]


class NotANumber(_Base):
    """Answers with NaN, which JSON can't carry; text that spells it is fine."""

    name = "not-a-number"

    class Output(BaseModel):
        value: float
        note: str = "NaN Infinity"

    def predict(self, values: list[Number]) -> list[dict[str, float]]:
        return [{"value": float("nan") if value.value < 0 else value.value} for value in values]


class BadOutput(_Base):
    """Answers with what its own Output refuses."""

    name = "bad-output"

    def predict(self, values: list[Number]) -> list[dict[str, str]]:
        return [{"value": "many"} for _ in values]


class Unloadable(_Base):
    """Its weights are not there."""

    name = "unloadable"

    def load(self, device: str) -> None:
        raise FileNotFoundError("weights.safetensors")

    def predict(self, values: list[Number]) -> list[Number]:
        return values


class Words(BaseModel):
    """A text."""

    text: str


class Vector(BaseModel):
    """What an embedding model answers."""

    embedding: list[float]


class Lengths(Model):
    """Embeds a text by its length, without torch. `fail` fails."""

    name = "lengths"
    version = "1"
    unit = "tokens"
    Input = Words
    Output = Vector

    def measure(self, value: Words) -> int:
        return len(value.text)

    def predict(self, values: list[Words]) -> list[dict[str, list[float]] | Exception]:
        return [
            JobError("model_error", "asked to fail")
            if value.text == "fail"
            else {"embedding": [float(len(value.text)), 1.0]}
            for value in values
        ]


class Weigh(Model):
    """Says what media it got, and answers at the length it is told to."""

    name = "weigh"
    version = "1"
    max_batch_items = 8
    execution_timeout_s = 20.0

    class Input(BaseModel):
        media: Media
        more: list[Media | None] = []
        note: str | None = None
        pad: int = 0

    class Output(BaseModel):
        sizes: list[int]
        sha256: str
        content_type: str
        filename: str | None
        pad: str

    def measure(self, value: Input) -> int:
        return max(1, len(value.media.bytes))

    def predict(self, values: list[Input]) -> list[Output]:
        return [self._weigh(value) for value in values]

    def _weigh(self, value: Input) -> Output:
        first = value.media
        return self.Output(
            sizes=[len(media.bytes) for media in (first, *value.more) if media is not None],
            sha256=hashlib.sha256(first.open().read()).hexdigest(),
            content_type=first.content_type,
            filename=first.filename,
            pad="x" * value.pad,
        )


class Gated(_Base):
    """Says when it runs, and answers only when it may."""

    name = "gated"
    max_batch_items = 4
    running = threading.Event()
    gate = threading.Event()

    @classmethod
    def reset(cls) -> None:
        cls.running.clear()
        cls.gate.clear()

    def predict(self, values: list[Number]) -> list[Number]:
        self._here().running.set()
        assert self._here().gate.wait(30)
        return values

    @staticmethod
    def _here() -> "type[Gated]":
        """The class that tests hold: a model's source is loaded as a module of its own."""
        from tests.support import models

        return models.Gated
