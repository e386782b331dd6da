"""Exports: the ONNX file of a loaded model's module, made once on a machine and shared by its children.

The file's name holds a digest of all that it was made from, the weights included, so a stale one is never
found: it is made anew. Nothing in it is code; deleting it costs the next load a few seconds.
"""

import contextlib
import fcntl
import hashlib
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

MADE_BY = ("torch", "onnx", "onnxscript", "onnxruntime")
"""The packages whose versions are part of the digest."""


@dataclass(frozen=True, slots=True)
class Call:
    """How the model calls its module: what an export has to take."""

    tensors: Mapping[str, Any]
    """An example of each argument, by its name in `forward`."""
    varying: Mapping[str, tuple[int, ...]]
    """The dimensions of each in which the examples differ: any size is taken there."""


def default_folder() -> Path:
    """Where exports are kept unless a setting says otherwise: the user's cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace" / "exports"


def digest(module: Any, call: Call, source_sha256: str, recipe: str) -> str:
    """Of the code, the weights, the call, the recipe and the packages: 32 hex digits."""
    import torch

    made_from = hashlib.sha256()
    shapes = [
        [
            name,
            str(tensor.dtype),
            [None if at in call.varying[name] else n for at, n in enumerate(tensor.shape)],
        ]
        for name, tensor in call.tensors.items()
    ]
    about = [source_sha256, recipe, [version(package) for package in MADE_BY], shapes]
    made_from.update(json.dumps(about).encode())
    for name, tensor in module.state_dict().items():
        made_from.update(f"{name} {tensor.dtype} {tuple(tensor.shape)} ".encode())
        made_from.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return made_from.hexdigest()[:32]


def kept(path: Path, make: Callable[[Path], None]) -> Path:
    """The file, made by `make` if it is not there.

    Children that ask at once wait for the first. It has its name only when it is whole.
    """
    if path.exists():
        return path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _alone(path.with_suffix(".lock")):
        if not path.exists():
            # Of this name, so that what a process left that died while it made one goes too.
            folder = path.with_suffix(".making")
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            made = folder / "made.onnx"
            try:
                make(made)
                with made.open("rb") as file:
                    os.fsync(file.fileno())
                made.replace(path)
            finally:
                shutil.rmtree(folder, ignore_errors=True)
    return path


def write(module: Any, call: Call, path: Path) -> None:
    """Export the module by torch.onnx, its weights in the file."""
    import torch

    # It says at every export which operators of torchvision it does without.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        torch.onnx.export(
            module,
            (),
            path,
            # Copies: what was seen in inference mode can't be traced.
            kwargs={name: tensor.detach().clone() for name, tensor in call.tensors.items()},
            input_names=list(call.tensors),
            dynamic_shapes={
                name: dict.fromkeys(varying, torch.export.Dim.DYNAMIC)
                for name, varying in call.varying.items()
            },
            dynamo=True,
            external_data=False,
            verbose=False,
        )


def quantize(source: Path, path: Path) -> None:
    """8-bit weights, a scale for each output channel; activations are scaled as they come."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = onnx.load(source)
    # The shapes between operators are those of before; it infers them anew.
    del model.graph.value_info[:]
    quantize_dynamic(
        model,
        path,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        # Not unsigned: with those the matrix product takes twice as long.
        weight_type=QuantType.QInt8,
    )


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine; one that dies lets go of it."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
