"""One suite, every runner: what a runner promises, whatever model it runs."""

import atexit
import dataclasses
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.domain.model import Media
from app.domain.planning import Caps
from app.errors import JobError
from app.intake.source import spec_of
from tests.support import models, torch_models
from tests.support.models import EXAMPLES
from tests.support.pictures import circle
from workers.runners.base import Runner
from workers.runners.local import LoadFailed, LocalRunner
from workers.runners.variants import EXPORT_PACKAGES

HERE = Path(models.__file__)

# torch.compile believes the flags of the processor, instead of compiling a file to try each.
os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(package) is None for package in EXPORT_PACKAGES),
    reason="the extra `onnx` is not installed",
)


class QuietContext:
    """A context that nobody listens to."""

    def progress(self, index: int, fraction: float, message: str | None = None) -> None:
        """Say nothing."""

    def canceled(self, index: int) -> bool:
        return False


# name → (source, input values that the model takes)
MODELS: dict[str, tuple[str, list[Any]]] = {
    "echo": (f"{EXAMPLES / 'echo.py'}:Echo", [{"n": n, "text": "\u0000é"} for n in range(5)]),
    "double": (f"{HERE}:Double", [{"value": float(n)} for n in range(5)]),
    "classes": (f"{torch_models.__file__}:Classes", list(torch_models.EXAMPLES)),
    "minilm": (f"{EXAMPLES / 'minilm.py'}:MiniLM", [{"text": "word " * n} for n in range(1, 6)]),
    "picture": (
        f"{EXAMPLES / 'picture.py'}:Picture",
        [{"image": Media(circle(10 * n, 20)), "edges": n % 2 == 0} for n in range(1, 6)],
    ),
}
TORCH = {"minilm", "classes", "picture"}


# One folder for all of this module: an export is made once.
EXPORTS = Path(tempfile.mkdtemp(prefix="headrace-exports-"))
atexit.register(shutil.rmtree, EXPORTS, ignore_errors=True)


def as_variant(variant: str) -> Callable[[str], Runner]:
    return lambda source: LocalRunner.load(
        dataclasses.replace(spec_of(source), variant=variant), "cpu", EXPORTS
    )


# name → (how it is loaded, the models it is for). Not int8: its activations are scaled by the largest of
# their micro-batch, so company shows; the quality gate judges it (tests/integration/test_tune.py). Compiling
# minilm takes a minute, so it is tried on the small model.
RUNNERS: dict[str, tuple[Callable[[str], Runner], set[str]]] = {
    "auto": (as_variant("auto"), set(MODELS)),
    "bf16": (as_variant("bf16"), {"minilm", "classes"}),
    "compile-bf16": (as_variant("compile-bf16"), {"classes"}),
    "onnx": (as_variant("onnx"), {"classes"}),
}
# How far an item's numbers may be from those of the same item in other company.
TOLERANCE = {"auto": 1e-5, "bf16": 1e-2, "compile-bf16": 1e-2, "onnx": 1e-5}


def marks(runner: str, model: str) -> list[pytest.MarkDecorator]:
    return [pytest.mark.torch] * (model in TORCH) + [needs_onnx] * runner.startswith("onnx")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param((runner, model), id=f"{runner}-{model}", marks=marks(runner, model))
        for runner, (_, models_) in RUNNERS.items()
        for model in MODELS
        if model in models_
    ],
)
def loaded(request: pytest.FixtureRequest) -> tuple[Runner, list[Any]]:
    runner, model = request.param
    source, values = MODELS[model]
    return RUNNERS[runner][0](source), values


def test_reads_what_the_model_takes_and_measures_it(loaded: tuple[Runner, list[Any]]) -> None:
    runner, values = loaded
    for value in values:
        _, units = runner.read(value)
        assert units >= 1


def test_outputs_match_inputs_one_to_one_in_any_company(loaded: tuple[Runner, list[Any]]) -> None:
    runner, values = loaded
    near = TOLERANCE[runner.spec.variant]
    read = [runner.read(value)[0] for value in values]
    together = runner.run(read, QuietContext())
    assert len(together.outputs) == len(values)
    assert together.device_s >= 0
    for value, output in zip(read, together.outputs, strict=True):
        (alone,) = runner.run([value], QuietContext()).outputs
        assert isinstance(output, bytes)
        assert isinstance(alone, bytes)
        assert _close(orjson.loads(output), orjson.loads(alone), near)


def test_refuses_what_is_not_its_input(loaded: tuple[Runner, list[Any]]) -> None:
    runner, _ = loaded
    with pytest.raises(JobError) as caught:
        runner.read("a bare string")
    assert caught.value.code == "invalid_input"
    assert not caught.value.retryable


def test_shrinks_for_good(loaded: tuple[Runner, list[Any]]) -> None:
    runner, _ = loaded
    before = runner.caps
    runner.shrink(8, 100)
    assert runner.caps == Caps(4, 50)
    runner.shrink(6, 300)
    assert runner.caps == Caps(3, 50), "a cap never grows again"
    runner.shrink(1, 1)
    assert runner.caps == Caps(1, 1)
    runner.caps = before


def local(name: str) -> LocalRunner:
    return LocalRunner.load(spec_of(f"{HERE}:{name}"), "cpu")


def run_one(runner: LocalRunner, value: float) -> Any:
    return runner.run([runner.read({"value": value})[0]], QuietContext()).outputs[0]


def test_nan_is_no_output_but_text_that_spells_it_is() -> None:
    runner = local("NotANumber")
    refused = run_one(runner, -1)
    assert isinstance(refused, JobError)
    assert refused.code == "invalid_output"
    assert orjson.loads(run_one(runner, 1)) == {"value": 1.0, "note": "NaN Infinity"}


def test_an_output_against_its_schema_fails_with_the_place() -> None:
    refused = run_one(local("BadOutput"), 1)
    assert isinstance(refused, JobError)
    assert refused.code == "invalid_output"
    assert refused.message.startswith("/value:")


def test_a_variant_that_a_model_can_not_be_says_why() -> None:
    with pytest.raises(LoadFailed, match=r"Double keeps no torch.nn.Module in an attribute"):
        as_variant("bf16")(f"{HERE}:Double")
    with pytest.raises(LoadFailed, match="there is no variant 'int2'; there are auto, fp32"):
        as_variant("int2")(f"{HERE}:Double")


@pytest.mark.torch
def test_an_example_that_fails_is_a_load_that_fails() -> None:
    with pytest.raises(LoadFailed, match="/values"):
        as_variant("auto")(f"{torch_models.__file__}:BadExample")


def test_too_few_outputs_are_an_error() -> None:
    with pytest.raises(JobError, match="0 outputs for 1 inputs"):
        run_one(local("ForgetsOne"), 1)


def test_a_failing_load_says_why() -> None:
    with pytest.raises(LoadFailed, match=r"FileNotFoundError: weights\.safetensors"):
        local("Unloadable")


def test_other_code_than_was_registered_is_not_run(tmp_path: Path) -> None:
    source = tmp_path / "changing.py"
    code = (EXAMPLES / "echo.py").read_text()
    source.write_text(code)
    spec = spec_of(f"{source}:Echo")
    source.write_text(f"{code}\n# changed since\n")
    with pytest.raises(LoadFailed, match="not the code that was registered"):
        LocalRunner.load(spec, "cpu")


def _close(left: Any, right: Any, near: float) -> bool:
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(_close(left[key], right[key], near) for key in left)
    if isinstance(left, list):
        return len(left) == len(right) and all(_close(*pair, near) for pair in zip(left, right, strict=True))
    return left == pytest.approx(right, abs=near) if isinstance(left, float) else left == right
