"""Applies a variant to a loaded model: changes the torch modules that it keeps in its attributes, in place.

So a model needs no code for it: it calls `self.model(…)` as ever. What goes into a module and what comes
out of it have the types they had: only how it is computed differs.
"""

import importlib.util
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.domain.variants import Variant

EXPORT_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
"""What the extra `onnx` installs."""

BF16_CAPABILITY = 8
"""The CUDA compute capability from which on devices compute bf16 fast."""


class CannotApply(Exception):
    """This model can't be computed as this variant; the message says why."""


@dataclass(frozen=True, slots=True)
class Exporting:
    """What an export needs besides the model."""

    show: Callable[[], None]
    """Runs the model's examples: how they call its modules says what an export has to take."""
    source_sha256: str
    folder: Path


def resolve(variant: str, device: str) -> Variant:
    """What a version's variant means on a device: `auto` becomes one of the others.

    Torch is asked only on CUDA, so that a child that runs no torch model does not import it.
    """
    if variant not in list(Variant):
        raise CannotApply(f"there is no variant {variant!r}; there are {', '.join(Variant)}")
    if variant != Variant.AUTO:
        return Variant(variant)
    if device.startswith("cuda"):
        import torch

        if torch.cuda.get_device_capability(device)[0] >= BF16_CAPABILITY:
            return Variant.BF16
    return Variant.FP32


def apply(model: Any, variant: str, device: str, exporting: Exporting | None = None) -> Variant:
    """Change the model's modules in place. Returns what `variant` means on this device.

    Without `exporting` there are no variants of ONNX Runtime.
    Raises `CannotApply`. `auto` never does: a model without modules is then left as it is.
    """
    wanted = resolve(variant, device)
    if wanted is Variant.FP32:
        return wanted
    modules = modules_of(model)
    if not modules:
        if variant == Variant.AUTO:
            return Variant.FP32
        raise CannotApply(
            f"{type(model).__name__} keeps no torch.nn.Module in an attribute, so there is nothing to "
            f"compute as {wanted}: assign it in load(), as in self.model = …"
        )
    if wanted in (Variant.ONNX, Variant.ONNX_INT8):
        _export(model, modules, wanted, device, exporting)
        return wanted
    for name, module in modules.items():
        if wanted is Variant.INT8:
            setattr(model, name, _quantized(module, device))
        if wanted in (Variant.BF16, Variant.COMPILE_BF16):
            _use_bf16(module, device)
        if wanted in (Variant.COMPILE, Variant.COMPILE_BF16):
            _compile(module)
    return wanted


def modules_of(model: Any) -> dict[str, Any]:
    """The torch modules among the model's attributes, by name."""
    import torch

    return {name: value for name, value in vars(model).items() if isinstance(value, torch.nn.Module)}


def size_of(model: Any) -> int:
    """Bytes of the parameters and buffers of its modules, shared ones once, and of exports."""
    tensors = {
        id(tensor): tensor.nbytes
        for module in modules_of(model).values()
        for tensor in [*module.parameters(), *module.buffers()]
    }
    files = sum(getattr(module, "nbytes", 0) for module in modules_of(model).values())
    return sum(tensors.values()) + files


def _use_bf16(module: Any, device: str) -> None:
    """Autocast within the module, fp32 without.

    The heavy layers' weights are converted once: autocast would do it anew for every micro-batch.
    """
    import torch

    heavy = (torch.nn.Linear, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)
    for part in module.modules():
        if isinstance(part, heavy):
            part.to(torch.bfloat16)
    forward: Callable[..., Any] = module.forward
    kind = device.partition(":")[0]

    def in_bf16(*args: Any, **kwargs: Any) -> Any:
        with torch.autocast(kind, torch.bfloat16):
            return _in_fp32(forward(*args, **kwargs))

    module.forward = in_bf16


def _in_fp32(value: Any) -> Any:
    """The same, with every bf16 tensor in fp32: numpy, for one, has no bf16."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.float() if value.dtype is torch.bfloat16 else value
    if isinstance(value, dict):
        for key in list(value):
            value[key] = _in_fp32(value[key])
        return value
    if type(value) in (list, tuple):
        return type(value)(_in_fp32(part) for part in value)
    return value


def _export(
    model: Any, modules: dict[str, Any], wanted: Variant, device: str, exporting: Exporting | None
) -> None:
    if device != "cpu":
        raise CannotApply(f"{wanted} runs on cpu only, not on {device}")
    if missing := [package for package in EXPORT_PACKAGES if importlib.util.find_spec(package) is None]:
        raise CannotApply(
            f"{wanted} needs what is not installed here ({', '.join(missing)}): pip install 'headrace[onnx]'"
        )
    if exporting is None:
        raise CannotApply(f"{wanted} is made of a registered version only")
    from workers.runners import onnx

    try:
        done = onnx.exported(
            modules,
            exporting.show,
            exporting.source_sha256,
            exporting.folder,
            int8=wanted is Variant.ONNX_INT8,
        )
    except onnx.Unsuitable as error:
        raise CannotApply(f"{type(model).__name__} can't be computed as {wanted}: {error}") from error
    for name, module in done.items():
        setattr(model, name, module)


def _compile(module: Any) -> None:
    # In this process: a pool of compiling processes would stay, and cost more memory than the model.
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")
    # In place, so that whatever refers to the module gets the compiled one.
    module.compile(dynamic=True)


def _quantized(module: Any, device: str) -> Any:
    import warnings

    import torch

    if device != "cpu":
        raise CannotApply(f"int8 runs on cpu only, not on {device}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear}, dtype=torch.qint8)
