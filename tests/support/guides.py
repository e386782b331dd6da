"""Run a guide as a reader would: its `sh` and `python` blocks in order, comparing what `text` blocks say."""

import doctest
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MARK = "--- end of block {} ---"


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, and the line it begins at."""

    language: str
    text: str
    line: int


def blocks(document: Path) -> list[Block]:
    """Every fenced block of a document."""
    text = document.read_text()
    return [
        Block(match[1], match[2], text.count("\n", 0, match.start()) + 2) for match in _FENCE.finditer(text)
    ]


def run(document: Path, folder: Path, timeout_s: float = 240) -> None:
    """Run the guide's commands in `folder`, in one shell; fail at the first that fails or prints otherwise.

    `python` blocks are run where they stand, each by itself. What goes to stderr is not compared.
    """
    steps = [block for block in blocks(document) if block.language in ("sh", "python")]
    script = ["set -euo pipefail"]
    for number, block in enumerate(steps):
        if block.language == "sh":
            script.append(block.text)
        else:
            file = folder / f"block_{number}.py"
            file.write_text(block.text)
            script.append(f"{sys.executable} {file.name}")
        script.append(f"echo; echo '{_MARK.format(number)}'")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    rest = done.stdout
    for number, block in enumerate(steps):
        printed, mark, rest = rest.partition(f"\n{_MARK.format(number)}\n")
        where = f"{document.name}:{block.line}"
        assert mark, f"{where} failed:\n{block.text}\n{printed}\n{done.stderr}"
        expected = _expected(document, block)
        if expected is not None:
            assert matches(expected, printed), f"{where} printed\n{printed}\nand not\n{expected}"


def matches(expected: str, printed: str) -> bool:
    """Whether it is what was said; `…` stands for anything."""
    want = expected.strip().replace("…", "...") + "\n"
    return doctest.OutputChecker().check_output(want, printed.strip() + "\n", doctest.ELLIPSIS)


def _expected(document: Path, block: Block) -> str | None:
    """The `text` block that follows directly, with nothing but blank lines between."""
    found = blocks(document)
    following = found[found.index(block) + 1 :][:1]
    if not following or following[0].language != "text":
        return None
    lines = document.read_text().splitlines()
    between = lines[block.line - 1 + block.text.count("\n") + 1 : following[0].line - 2]
    return None if any(line.strip() for line in between) else following[0].text
