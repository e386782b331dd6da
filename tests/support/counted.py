"""A model that writes down what it runs, so that work done twice can be counted."""

import os
import time
from pathlib import Path

from pydantic import BaseModel

from app.domain.model import Model

FILE, PACE = "COUNTED_FILE", "COUNTED_PACE_FILE"
"""Environment: where it writes, and the file that says how many seconds a micro-batch takes."""


class Counted(Model):
    """As echo, and a line for each micro-batch, as it begins."""

    name = "counted"
    version = "1"
    max_batch_items = 64

    class Input(BaseModel):
        """A number."""

        n: int

    Output = Input

    def predict(self, values: list[Input]) -> list[Input]:
        # One write, appended as a whole whoever else writes; kept by the kernel whoever is killed.
        with open(os.environ[FILE], "ab", buffering=0) as file:
            file.write(b" ".join(b"%d" % value.n for value in values) + b"\n")
        time.sleep(float(Path(os.environ[PACE]).read_text()))
        return values


def runs(file: str) -> list[list[int]]:
    """The micro-batches that were begun."""
    with open(file, "rb") as lines:
        return [[int(number) for number in line.split()] for line in lines]
