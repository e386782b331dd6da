"""Servers that no wheel holds, from Debian's packages: as installed, else unpacked into a folder."""

import functools
import glob
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest

_PLACES = "/usr/sbin:/usr/lib/postgresql/*/bin"
_FOLDER = Path(tempfile.gettempdir()) / f"headrace-tests-debian-{os.geteuid()}"


@dataclass(frozen=True)
class Program:
    """A program's path, and the variables by which it finds the libraries that were unpacked with it."""

    path: str
    environment: dict[str, str]


def program(name: str, *packages: str) -> Program:
    """The program `name`. The test is skipped where it can't be had: it is in these packages."""
    places = [place for pattern in _PLACES.split(":") for place in glob.glob(pattern)]
    found = shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *places]))
    if found:
        return Program(found, dict(os.environ))
    root = _unpacked(packages)
    if root is None:
        pytest.skip(f"{name} is in Debian's package {packages[0]}")
    (path,) = [path for path in root.rglob(f"*bin/{name}") if path.is_file()]
    libraries = ":".join(str(each) for each in root.glob("usr/lib/*-linux-gnu"))
    return Program(str(path), {**os.environ, "LD_LIBRARY_PATH": libraries})


@functools.cache
def _unpacked(packages: tuple[str, ...]) -> Path | None:
    """Where these packages are unpacked; None if they can't be had. What was unpacked once is kept."""
    root = _FOLDER / packages[0]
    if root.exists():
        return root
    _FOLDER.mkdir(mode=0o755, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_FOLDER) as work:
        tree = Path(work, "tree")
        try:
            subprocess.run(
                ["apt-get", "download", *packages], cwd=work, capture_output=True, check=True, timeout=60
            )
            for package in Path(work).glob("*.deb"):
                subprocess.run(["dpkg", "-x", package, tree], capture_output=True, check=True)
            tree.rename(root)
        except (OSError, subprocess.SubprocessError):
            return None
    return root
