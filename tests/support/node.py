"""The official Node library and express, installed as `tests/node/package-lock.json` pins them."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.guides import ROOT


def install(folder: Path) -> Path:
    """Install into `folder`, beside what else is in `tests/node`. Skips without node and npm."""
    if not (shutil.which("node") and shutil.which("npm")):
        pytest.skip("needs node and npm")
    for file in (ROOT / "tests" / "node").iterdir():
        if file.is_file():
            shutil.copy(file, folder)
    command = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return folder
