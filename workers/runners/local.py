"""Runs a model class in this process: prepare (CPU) → forward (device) → finish (CPU)."""

import errno
import gc
import time
from pathlib import Path
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import to_json

from app.domain.cost import CostModel
from app.domain.model import Context, Model, ModelSpec
from app.domain.planning import Caps
from app.errors import Invalid, JobError
from app.intake.source import load_class, sha256_of, source_file
from workers.runners import device as devices
from workers.runners import exports, variants
from workers.runners.base import Ran
from workers.runners.learned import LearnedCaps

_OF_THE_MACHINE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE}


class LoadFailed(Exception):
    """The model could not be loaded here; the message says why, in one line.

    `of_the_machine`: its disk or its open files are the trouble, so it is nobody's fault.
    """

    def __init__(self, message: str, of_the_machine: bool = False) -> None:
        super().__init__(message)
        self.of_the_machine = of_the_machine


def _of_the_machine(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
            return True
        error = error.__cause__ or error.__context__
    return False


class Nobody:
    """The context of a run that no job waits for."""

    def progress(self, index: int, fraction: float, message: str | None = None) -> None:
        """Nobody is told."""

    def canceled(self, index: int) -> bool:  # noqa: ARG002 - see Context
        return False


class LocalRunner:
    """See `Runner`. Checks what the model returns: one output per input, each valid, each JSON."""

    def __init__(
        self,
        spec: ModelSpec,
        model: Model,
        device: str,
        longest_s: float | None = None,
        learned: LearnedCaps | None = None,
    ) -> None:
        self.spec = spec
        self._learned = learned or LearnedCaps()
        self.caps = self._learned.of(spec, Caps(spec.max_batch_items, spec.max_batch_units, longest_s))
        self.costs = CostModel()
        self._model = model
        self._device = device

    @classmethod
    def load(
        cls,
        spec: ModelSpec,
        device: str,
        exports_dir: Path | None = None,
        longest_s: float | None = None,
        learned: LearnedCaps | None = None,
    ) -> "LocalRunner":
        """Import the registered class, make sure that it is the code that was registered, load weights.
        `longest_s`: see `Caps.seconds`.

        Exports are kept in `exports_dir`, or in the user's cache. `learned` outlives the runner: it begins
        with the caps of the one before. Raises `LoadFailed`, whatever the model's code raised.
        """
        try:
            model_class = load_class(spec.source)
            if sha256_of(source_file(model_class)) != spec.source_sha256:
                raise LoadFailed(f"{spec.source} is not the code that was registered as {spec.version}")
            model = model_class()
            model.load(device)
            runner = cls(spec, model, device, longest_s, learned)
            folder = exports_dir or exports.default_folder()
            exporting = variants.Exporting(runner.warm_up, spec.source_sha256, folder)
            variants.apply(model, spec.variant, device, exporting)
            runner.warm_up()
        except LoadFailed:
            raise
        except variants.CannotApply as error:
            raise LoadFailed(str(error)) from error
        except Invalid as error:
            raise LoadFailed(error.detail) from error
        except Exception as error:
            raise LoadFailed(f"{type(error).__name__}: {error}", _of_the_machine(error)) from error
        return runner

    @property
    def size(self) -> int:
        """Bytes of the model's weights, as far as it keeps them in torch modules."""
        return variants.size_of(self._model)

    def warm_up(self) -> None:
        """Run the model's examples, so that no job pays for what the first micro-batches cost.

        Together and one alone: a compiled model has code of its own for a micro-batch of one. And the last
        alone: an export has to see all that differs, and where one item is all that fits it sees no more.
        """
        values = [self.read(example)[0] for example in self._model.examples]
        together = (values if len(values) > 1 else values * 2)[: self.caps.items]
        for batch in (together, values[:1], values[-1:]):
            if batch:
                failed = [
                    output for output in self.run(batch, Nobody()).outputs if not isinstance(output, bytes)
                ]
                if failed:
                    raise LoadFailed(f"an example of the model's own fails: {failed[0]}")

    def read(self, value: Any) -> tuple[Any, int]:
        try:
            parsed = self._model.Input.model_validate(value)
        except ValidationError as error:
            raise JobError("invalid_input", _first_problem(error)) from None
        units = self._model.measure(parsed)
        if not isinstance(units, int) or units < 1:
            raise JobError("model_error", f"measure() returned {units!r}, not a whole number above 0")
        return parsed, units

    def run(self, values: list[Any], context: Context) -> Ran:
        prepared = self._model.prepare(values)
        started = time.perf_counter()
        raw = self._model.forward(prepared, context)
        devices.synchronize(self._device)
        device_s = time.perf_counter() - started
        outputs = self._model.finish(raw)
        if len(outputs) != len(values):
            raise JobError(
                "model_error", f"the model returned {len(outputs)} outputs for {len(values)} inputs"
            )
        return Ran([self._encode(output) for output in outputs], device_s)

    def free(self) -> None:
        gc.collect()
        devices.empty_cache(self._device)

    def shrink(self, items: int, padded_units: int) -> None:
        self.caps = self._learned.half(self.spec, self.caps, items, padded_units)

    def close(self) -> None:
        del self._model
        gc.collect()
        devices.empty_cache(self._device)

    def _encode(self, output: Any) -> bytes | Exception | None:
        if output is None or isinstance(output, Exception):
            return output
        try:
            valid = self._model.Output.model_validate(output)
            # Not model_dump_json: it would turn NaN into null without a word.
            encoded = to_json(valid.model_dump(mode="json"), inf_nan_mode="constants")
        except ValidationError as error:
            return JobError("invalid_output", _first_problem(error))
        except Exception as error:  # a serializer of the user's own may raise anything
            return JobError("invalid_output", f"{type(error).__name__}: {error}")
        # NaN and Infinity are not JSON; orjson is asked only where one may be.
        if (b"NaN" in encoded or b"Infinity" in encoded) and not _is_json(encoded):
            return JobError("invalid_output", "the output holds NaN or Infinity, which JSON can't carry")
        return encoded


def _is_json(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    pointer = "/".join(str(part) for part in first["loc"])
    more = error.error_count() - 1
    return f"/{pointer}: {first['msg']}" + (f" (and {more} more)" if more else "")
