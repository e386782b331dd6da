"""Small torch models that tests run as variants. Torch is imported in `load` only."""

import os
import signal
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel

from app.domain.model import Model


class Numbers(BaseModel):
    """Sixteen numbers."""

    values: list[float]


class Label(BaseModel):
    """Which class, and the scores of each."""

    label: str
    scores: list[float]


EXAMPLES = [{"values": [((3 * row + column) % 7) / 7 for column in range(16)]} for row in range(8)]


class Classes(Model):
    """Two layers that know nothing, with the same weights in every process."""

    name = "classes"
    version = "1"
    Input = Numbers
    Output = Label
    examples = EXAMPLES

    def load(self, device: str) -> None:
        import torch

        self.torch = torch
        generator = torch.Generator().manual_seed(0)
        self.network = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 3))
        for weights in self.network.parameters():
            weights.data = torch.randn(weights.shape, generator=generator)
        self.network.eval().to(device)

    def predict(self, values: list[Numbers]) -> list[dict[str, Any]]:
        with self.torch.inference_mode():
            scores = self.network(self.torch.tensor([value.values for value in values]))
            # numpy has no bf16: whatever the variant, what comes out is fp32.
            rows = scores.softmax(dim=1).numpy().tolist()
        return [{"label": "abc"[row.index(max(row))], "scores": row} for row in rows]


class Coarse(Classes):
    """One weight is a thousand times the others, so 8 bits are too few for all of them."""

    name = "coarse"

    def load(self, device: str) -> None:
        super().load(device)
        self.network[2].weight.data[0, 0] = 1000.0


class DiesQuantized(Classes):
    """Kills its process when its layers are not the ones that it made."""

    name = "dies-quantized"

    def predict(self, values: list[Numbers]) -> list[dict[str, Any]]:
        if type(self.network[0]) is not self.torch.nn.Linear:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().predict(values)


class BadExample(Classes):
    """Its own example is refused."""

    name = "bad-example"
    examples = ({"values": "none"},)


class NoExamples(Classes):
    """Says nothing of how its module is called."""

    name = "no-examples"
    examples = ()


class OneSize(Classes):
    """Gives its module one row at a time."""

    name = "one-size"
    max_batch_items = 1


class TakesANumber(Classes):
    """Its module takes something besides tensors."""

    name = "takes-a-number"

    def load(self, device: str) -> None:
        super().load(device)
        import torch

        class Repeated(torch.nn.Sequential):
            def forward(self, rows: Any, times: int = 1) -> Any:
                return super().forward(rows) * times

        network = Repeated(*self.network)
        self.network = lambda rows: self.repeated(rows, 1)
        self.repeated = network


class ReturnsAnObject(Classes):
    """Its module returns an object of its own."""

    name = "returns-an-object"

    def load(self, device: str) -> None:
        super().load(device)
        import torch

        class Wrapped(torch.nn.Sequential):
            def forward(self, rows: Any) -> Any:
                return SimpleNamespace(scores=super().forward(rows))

        wrapped = Wrapped(*self.network)
        self.network = lambda rows: self.wrapped(rows).scores
        self.wrapped = wrapped
