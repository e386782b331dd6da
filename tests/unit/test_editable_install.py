"""`make setup` installs what `mypy` and editors can follow: the client, and what models are made of."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

ROOT = Path(__file__).resolve().parents[2]
BUILD = "from setuptools import build_meta; print(build_meta.build_editable('.'))"


@pytest.mark.parametrize(
    ("project", "packages"),
    [(ROOT, ["app", "workers", "migrations"]), (ROOT / "clients/python", ["headrace"])],
    ids=["server", "client"],
)
def test_an_editable_install_is_a_path(tmp_path: Path, project: Path, packages: list[str]) -> None:
    """Where it is a finder in Python instead, they see no module at all."""
    for file in filter(Path.is_file, project.iterdir()):
        shutil.copy(file, tmp_path)
    for package in packages:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(project / package, tmp_path / package, ignore=ignored)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BUILD],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    with ZipFile(tmp_path / done.stdout.split()[-1]) as wheel:
        (path,) = (name for name in wheel.namelist() if name.endswith(".pth"))
        assert wheel.read(path).decode().splitlines() == [str(tmp_path)]
        assert not [name for name in wheel.namelist() if name.endswith(".py")]
    assert (project / packages[0] / "py.typed").is_file()
