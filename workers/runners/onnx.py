"""A module computed by ONNX Runtime: called as the torch module was, tensors in and out."""

import inspect
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import onnxruntime
import torch

from workers.runners import exports
from workers.runners.exports import Call


class Unsuitable(Exception):
    """This module can't be exported; the message says why."""


class Watched:
    """Sees how a model calls one of its modules, and what it gets."""

    def __init__(self, module: torch.nn.Module) -> None:
        self.module = module
        self.calls: list[dict[str, Any]] = []
        self.output: Any = None

    def __enter__(self) -> "Watched":
        self._handle = self.module.register_forward_hook(self._see, with_kwargs=True)
        return self

    def __exit__(self, *_: object) -> None:
        self._handle.remove()

    def call(self) -> Call:
        """What an export has to take. Raises `Unsuitable`."""
        first = self.calls[0]
        if any(call.keys() != first.keys() for call in self.calls):
            raise Unsuitable("is called now with these arguments, now with others")
        for name, value in first.items():
            if not isinstance(value, torch.Tensor):
                raise Unsuitable(
                    f"is called with {name}, a {type(value).__name__}: an export takes tensors only"
                )
        varying = {
            name: tuple(
                at for at in range(value.dim()) if len({call[name].shape[at] for call in self.calls}) > 1
            )
            for name, value in first.items()
        }
        if not any(varying.values()):
            raise Unsuitable(
                "is called with one shape only by the class's examples: give some of different sizes, "
                "since an export takes other sizes only in the dimensions in which examples differ"
            )
        return Call(first, varying)

    def _see(self, module: torch.nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        self.calls.append(named(signature(module), args, kwargs))
        if len(self.calls) == 1:
            self.output = output


class Exported(torch.nn.Module):
    """Runs an exported file in the place of the module that it was made from."""

    def __init__(self, path: Path, like: inspect.Signature, pack: Callable[[list[Any]], Any]) -> None:
        super().__init__()
        options = onnxruntime.SessionOptions()
        # A child's share of the cores, and no thread that spins while it waits for work.
        options.intra_op_num_threads = torch.get_num_threads()
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = 3
        self.nbytes = path.stat().st_size
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._like = like
        self._pack = pack

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """As the module that was exported."""
        given = {name: tensor.detach().numpy() for name, tensor in named(self._like, args, kwargs).items()}
        return self._pack([torch.from_numpy(array) for array in self._session.run(None, given)])


def exported(
    modules: dict[str, torch.nn.Module],
    show: Callable[[], None],
    source_sha256: str,
    folder: Path,
    *,
    int8: bool,
) -> dict[str, Exported]:
    """The modules that the model calls, each in ONNX Runtime. `show` runs the model's examples.

    Raises `Unsuitable`.
    """
    with ExitStack() as watching:
        watched = {name: watching.enter_context(Watched(module)) for name, module in modules.items()}
        show()
    called = {name: seen for name, seen in watched.items() if seen.calls}
    if not called:
        raise Unsuitable(
            "no example calls a module: give the class `examples`, which say what an export takes"
        )
    done = {}
    for name, seen in called.items():
        try:
            done[name] = _exported(name, seen, source_sha256, folder, int8=int8)
        except Unsuitable as error:
            raise Unsuitable(f"self.{name} {error}") from None
    return done


def _exported(name: str, seen: Watched, source_sha256: str, folder: Path, *, int8: bool) -> Exported:
    module, call, pack = seen.module, seen.call(), packer(seen.output)

    def make(path: Path) -> None:
        if not int8:
            exports.write(module, call, path)
            return
        whole = path.with_name("fp32.onnx")
        exports.write(module, call, whole)
        exports.quantize(whole, path)

    recipe = "int8" if int8 else "fp32"
    key = exports.digest(module, call, source_sha256, recipe)
    path = exports.kept(folder / f"{name}-{recipe}-{key}.onnx", make)
    return Exported(path, signature(module), pack)


def signature(module: torch.nn.Module) -> inspect.Signature:
    """What the module's `forward` takes."""
    return inspect.signature(module.forward)


def named(like: inspect.Signature, args: Any, kwargs: Any) -> dict[str, Any]:
    """Arguments by name; one that is None is one that is not given."""
    bound = like.bind(*args, **kwargs).arguments
    for name in bound:
        if like.parameters[name].kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            raise Unsuitable(f"takes any number of arguments (*{name}): an export needs the name of each")
    return {name: value for name, value in bound.items() if value is not None}


def packer(output: Any) -> Callable[[list[Any]], Any]:
    """Makes of a list of tensors what the module returned: a tensor, or a tuple, list or dict of them."""
    if isinstance(output, torch.Tensor):
        return lambda tensors: tensors[0]
    if type(output) in (tuple, list) and all(isinstance(part, torch.Tensor) for part in output):
        return type(output)
    if type(output) is dict and all(isinstance(part, torch.Tensor) for part in output.values()):
        keys = list(output)
        return lambda tensors: dict(zip(keys, tensors, strict=True))
    raise Unsuitable(
        f"returns a {type(output).__name__}: an export returns a tensor, or a tuple, list or dict of them"
    )
