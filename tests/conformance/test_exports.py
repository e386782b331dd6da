"""Exports: made once, found again, made anew when what they are of has changed, refused with a reason."""

import dataclasses
import importlib.util
import threading
from pathlib import Path
from typing import Any

import orjson
import pytest

from app.intake.source import spec_of
from tests.support import torch_models
from workers.runners import exports, variants
from workers.runners.local import LoadFailed, LocalRunner, Nobody

SOURCE = torch_models.__file__
pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        any(importlib.util.find_spec(package) is None for package in variants.EXPORT_PACKAGES),
        reason="the extra `onnx` is not installed",
    ),
]


def loaded(name: str, variant: str, folder: Path) -> LocalRunner:
    return LocalRunner.load(dataclasses.replace(spec_of(f"{SOURCE}:{name}"), variant=variant), "cpu", folder)


def answer(runner: LocalRunner, count: int) -> list[Any]:
    values = [runner.read(value)[0] for value in torch_models.EXAMPLES[:count]]
    return [
        orjson.loads(output) for output in runner.run(values, Nobody()).outputs if isinstance(output, bytes)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports") / "not there yet"


@pytest.mark.parametrize(("variant", "near"), [("onnx", 1e-5), ("onnx-int8", 0.05)])
def test_an_export_answers_as_fp32_does_for_any_size_and_is_made_once(
    folder: Path, variant: str, near: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loaded("Classes", "fp32", folder)
    first = loaded("Classes", variant, folder)
    for count in (1, 3, 8):
        for left, right in zip(answer(plain, count), answer(first, count), strict=True):
            assert right["scores"] == pytest.approx(left["scores"], abs=near)
    monkeypatch.setattr(exports, "write", None)
    again = loaded("Classes", variant, folder)
    assert answer(again, 3) == answer(first, 3)
    assert folder.stat().st_mode & 0o077 == 0, "others could say what the model answers"


def test_other_weights_are_another_export(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded("Classes", "onnx", folder)
    made = []
    write = exports.write
    monkeypatch.setattr(exports, "write", lambda *order: (made.append(order), write(*order)))
    # The same file of code, and one weight that differs.
    coarse = loaded("Coarse", "onnx", folder)
    assert len(made) == 1
    assert answer(coarse, 3) == [
        {**plain, "scores": pytest.approx(plain["scores"], abs=1e-5)}
        for plain in answer(loaded("Coarse", "fp32", folder), 3)
    ]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("NoExamples", "give the class `examples`"),
        ("OneSize", r"self\.network is called with one shape only"),
        ("TakesANumber", r"self\.repeated is called with times, a int: an export takes tensors only"),
        ("ReturnsAnObject", r"self\.wrapped returns a SimpleNamespace"),
    ],
)
def test_what_can_not_be_exported_says_why(folder: Path, name: str, why: str) -> None:
    with pytest.raises(LoadFailed, match=why):
        loaded(name, "onnx", folder)


def test_a_package_that_is_not_there_is_named_with_its_extra(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(variants, "EXPORT_PACKAGES", ("onnx", "no_such_runtime"))
    with pytest.raises(
        LoadFailed, match=r"not installed here \(no_such_runtime\): pip install 'headrace\[onnx\]'"
    ):
        loaded("Classes", "onnx", folder)


def test_children_that_ask_at_once_make_one_file_and_find_it_whole(tmp_path: Path) -> None:
    begun, together = [], threading.Barrier(4)
    found = []

    def make(path: Path) -> None:
        begun.append(path)
        path.write_bytes(b"half")
        assert not (tmp_path / "some.onnx").exists()
        path.write_bytes(b"whole")

    def ask() -> None:
        together.wait()
        found.append(exports.kept(tmp_path / "some.onnx", make).read_bytes())

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(begun), found) == (1, [b"whole"] * 4)
    assert not list(tmp_path.glob("*.making"))


def test_what_fails_leaves_nothing_and_what_died_is_swept(tmp_path: Path) -> None:
    left = tmp_path / "some.making"
    left.mkdir()
    (left / "made.onnx").write_bytes(b"half")

    def fail(path: Path) -> None:
        assert not path.exists()
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        exports.kept(tmp_path / "some.onnx", fail)
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
