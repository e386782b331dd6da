"""echo: output = input. No torch. Its other inputs cause failures, so that they can be tested."""

import os
import signal
import time

from pydantic import BaseModel, ConfigDict, Field

from app.domain.model import Context, Model


class Echo(Model):
    """Answers with its own input. `sleep_ms`, `fail`, `crash` and `hang` make it misbehave on purpose."""

    name = "echo"
    version = "1"
    max_batch_items = 64

    class Input(BaseModel):
        """Anything; the fields below also do something."""

        model_config = ConfigDict(extra="allow")

        sleep_ms: int | float = Field(0, ge=0, le=600_000, description="Sleep this long, reporting progress.")
        fail: bool | str = Field(False, description="Fail; a text becomes the error's message.")
        crash: bool = Field(False, description="Abort the worker process.")
        hang: bool = Field(False, description="Never end.")

    class Output(BaseModel):
        """The input as it was given."""

        model_config = ConfigDict(extra="allow")

    def predict(self, values: list[Input], context: Context) -> list[dict | Exception | None]:
        if any(value.crash for value in values):
            # SIGKILL and not abort(): a crash that no handler sees and that dumps no core.
            os.kill(os.getpid(), signal.SIGKILL)
        while any(value.hang for value in values):
            time.sleep(1)
        return [self._answer(index, value, context) for index, value in enumerate(values)]

    def _answer(self, index: int, value: Input, context: Context) -> dict | Exception | None:
        if value.fail:
            return RuntimeError(value.fail if isinstance(value.fail, str) else "asked to fail")
        started, duration = time.monotonic(), value.sleep_ms / 1000
        while (elapsed := time.monotonic() - started) < duration:
            if context.canceled(index):
                return None
            context.progress(index, elapsed / duration)
            time.sleep(min(0.05, duration - elapsed))
        return value.model_dump(exclude_unset=True)
