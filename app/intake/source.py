"""A model's source: `FILE.py:CLASS` or `package.module:CLASS`, turned into its class and its spec."""

import hashlib
import importlib
import importlib.util
import inspect
import math
import re
import sys
import textwrap
import traceback
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from app.domain.lanes import Device
from app.domain.model import Model, ModelSpec
from app.domain.variants import Variant
from app.errors import Invalid
from app.intake.media import is_marked

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCHEMAS: dict[str, JsonSchemaMode] = {"Input": "validation", "Output": "serialization"}
_MOST = 2**31 - 1
_WHOLE = f"a whole number, 1 to {_MOST}"
_OF_THE_USER = (Exception, SystemExit)
"""What a user's module may raise: one that is a script as well may exit."""
_LOADERS = (__file__, importlib.__file__)


def load_class(source: str) -> type[Model]:
    """Import the class. Raises `Invalid` that says what is wrong with the source; what the user's own code
    raised is named by its type, its message and his line, and is the cause.
    """
    place, _, name = source.rpartition(":")
    if not place or not name.isidentifier():
        raise _wrong(f"{source!r} is not FILE.py:CLASS or package.module:CLASS")
    module = _load_file(Path(place)) if place.endswith(".py") else _load_module(place)
    found = getattr(module, name, None)
    if not inspect.isclass(found) or not issubclass(found, Model):
        raise _wrong(f"{place} has no class {name} derived from app.domain.model.Model")
    return found


def source_file(cls: type[Model]) -> Path:
    """The file that defines the class."""
    return Path(inspect.getfile(cls)).resolve()


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def spec_of(source: str) -> ModelSpec:
    """Read everything the registry keeps from the class. Raises `Invalid` for attributes that can't be."""
    cls = load_class(source)
    path = source_file(cls)
    sha256 = sha256_of(path)
    place, _, name = source.rpartition(":")
    model_name = getattr(cls, "name", "")
    version = cls.version or sha256[:8]
    problems = []
    if not isinstance(model_name, str) or not _NAME.fullmatch(model_name):
        problems.append("name must be 1 to 64 of a-z 0-9 . _ - and start with a letter or digit")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        problems.append("version must be 1 to 64 of A-Z a-z 0-9 . _ -")
    schemas: dict[str, dict[str, Any]] = {}
    for attribute, mode in _SCHEMAS.items():
        schema = getattr(cls, attribute, None)
        if not (inspect.isclass(schema) and issubclass(schema, BaseModel)):
            problems.append(f"{attribute} must be a pydantic model")
            continue
        try:
            schemas[attribute] = schema.model_json_schema(mode=mode)
        except Exception as error:
            problems.append(f"{attribute} has no JSON schema: {_said(error)}")
    if is_marked(schemas.get("Output", {})):
        problems.append("Output can't hold Media; give bytes back as base64 text")
    for attribute in ("max_batch_items", "memory_mb"):
        if not _is_whole(getattr(cls, attribute)):
            problems.append(f"{attribute} must be {_WHOLE}")
    if cls.max_batch_units is not None and not _is_whole(cls.max_batch_units):
        problems.append(f"max_batch_units must be None or {_WHOLE}")
    if not (isinstance(cls.execution_timeout_s, int | float) and 0 < cls.execution_timeout_s < math.inf):
        problems.append("execution_timeout_s must be a number of seconds above 0")
    if not isinstance(cls.unit, str):
        problems.append("unit must be a text")
    if cls.runs_on not in list(Device):
        problems.append("runs_on must be cpu, gpu or remote")
    if cls.variant not in list(Variant):
        problems.append(f"variant must be one of {', '.join(Variant)}")
    if cls.predict is Model.predict and cls.forward is Model.forward:
        problems.append("predict (or forward) must be defined")
    if problems:
        raise _wrong(f"{name}: {'; '.join(problems)}")
    return ModelSpec(
        name=model_name,
        version=version,
        source=f"{path}:{name}" if place.endswith(".py") else source,
        source_sha256=sha256,
        device=Device(cls.runs_on),
        unit=cls.unit,
        max_batch_items=cls.max_batch_items,
        max_batch_units=cls.max_batch_units,
        execution_timeout_s=float(cls.execution_timeout_s),
        memory_mb=cls.memory_mb,
        input_schema=_closed(schemas["Input"]),
        output_schema=schemas["Output"],
        description=inspect.cleandoc(cls.__doc__ or ""),
        variant=cls.variant,
    )


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """Refuse unknown fields wherever the model does not say that it takes them (`extra="allow"`)."""
    for part in [schema, *schema.get("$defs", {}).values()]:
        if "properties" in part or part.get("type") == "object":
            part.setdefault("additionalProperties", False)
    return schema


def _load_file(path: Path) -> Any:
    path = path.expanduser().resolve()
    if not path.is_file():
        raise _wrong(f"there is no file {path}")
    try:
        content = path.read_bytes()
    except OSError as error:
        raise _wrong(f"{path} can't be read: {error.strerror}") from error
    # The name carries the folder, since two models may have files of the same name, and the content, since
    # a process that has loaded one version must be able to load the next.
    digest = hashlib.sha256(str(path).encode() + content).hexdigest()
    name = f"headrace_model_{path.stem}_{digest[:16]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # pydantic resolves annotations through sys.modules, so it must be there before it runs.
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, _OF_THE_USER):
            raise _wrong(f"{path} can't be imported: {_raised(error)}") from error
        raise
    return module


def _load_module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except _OF_THE_USER as error:
        if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
            raise _wrong(f"there is no module {name}") from None
        raise _wrong(f"{name} can't be imported: {_raised(error)}") from error


def _raised(error: BaseException) -> str:
    """An error of the user's module in one line: its type, its message, and which line of his file it was."""
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return f"{type(error).__name__}: {error.msg} ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    outside = [each for each in frames if each.filename not in _LOADERS and each.filename[0] != "<"]
    own = [each for each in outside if each.filename == outside[0].filename]
    return f"{_said(error)} ({own[-1].filename}:{own[-1].lineno})" if own else _said(error)


def _said(error: BaseException) -> str:
    message = textwrap.shorten(str(error), 500, placeholder=" …")
    return ": ".join(filter(None, (type(error).__name__, message)))


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _MOST


def _wrong(detail: str) -> Invalid:
    return Invalid("invalid_model", detail)
