"""A newcomer's model: the guide as it is written, and what the guide says about new code."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_guides import needs_tools
from tests.support import guides
from tests.support.stacks import RunningStack

pytestmark = pytest.mark.torch

SMALL = ("small:cpu.interactive,cpu.batch:1",)


def ask(stack: RunningStack, text: str) -> dict[str, Any]:
    """Run the classifier on a text, by the current version."""
    body = {"model": "language", "input": {"text": text}}
    answer = stack.request("POST", "/v1/jobs", json=body, headers={"Prefer": "wait=60"}, timeout=90)
    assert answer.status_code == 200, answer.text
    job: dict[str, Any] = answer.json()
    return job


@needs_tools
def test_the_guide_works_as_written(make_stack: Callable[..., RunningStack], tmp_path: Path) -> None:
    (tmp_path / ".venv").symlink_to(Path(sys.executable).parent.parent)
    (tmp_path / "examples").symlink_to(guides.ROOT / "examples")
    make_stack(start=False, state_dir=tmp_path / ".headrace")  # so that it is stopped in any case
    guides.run(guides.DOCS / "guides" / "bring-your-own-model.md", tmp_path)


def test_new_code_under_a_new_version_runs_without_a_restart(
    make_stack: Callable[..., RunningStack], tmp_path: Path
) -> None:
    source = tmp_path / "classifier.py"
    shutil.copy(guides.ROOT / "examples" / "models" / "classifier.py", source)
    stack = make_stack(workers=SMALL, models=[f"{source}:Language"])
    first = ask(stack, "Guten Morgen")
    assert first["output"]["language"] == "de"

    code = source.read_text()
    assert "language=language, score" in code
    source.write_text(code.replace("language=language, score", "language=language.upper(), score"))
    done = stack.headracectl("models", "register", f"{source}:Language")
    assert done.returncode == 0, done.stderr
    named = f"language@{done.stdout.strip().rpartition('@')[2]}"
    body = {"model": named, "input": {"text": "Guten Morgen"}}
    answer = stack.request("POST", "/v1/jobs", json=body, headers={"Prefer": "wait=60"}, timeout=90)
    second = answer.json()
    assert second["version"] != first["version"]
    assert second["output"]["language"] == "DE"
