"""A model that does what no model should, on workers that nothing else runs on."""

import ctypes
import itertools
import os
import time
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from app.domain.lanes import Device
from app.domain.model import Context, Model


class Poison(Model):
    """Answers with its input. `how` says how it dies instead, `until` names a file that ends its sleep."""

    name = "poison"
    version = "1"
    runs_on = Device.GPU
    max_batch_items = 16
    execution_timeout_s = 30.0

    class Input(BaseModel):
        """One input."""

        model_config = ConfigDict(extra="allow")
        how: str = ""
        until: str = ""

    class Output(BaseModel):
        """The same."""

        model_config = ConfigDict(extra="allow")

    def predict(self, values: list[Input], context: Context) -> list[dict]:
        for value in values:
            _do(value.how)
            while value.until and not Path(value.until).exists():
                time.sleep(0.02)
        return [value.model_dump(exclude_unset=True) for value in values]


def _do(how: str) -> None:
    if how == "abort":
        os.abort()
    if how == "segfault":
        ctypes.string_at(0)
    if how == "memory bomb":
        held = []
        while True:
            held.append(bytearray(2**20))
    if how == "endless loop":
        while True:
            pass
    if how == "holds the GIL":
        all(itertools.repeat(True))
