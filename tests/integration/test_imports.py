"""Who may import whom: each contract of setup.cfg holds, and fails on a seeded violation."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# contract → (file, a line that breaks it)
VIOLATIONS = {
    "layers": ("app/domain/lanes.py", "import app.db.engine"),
    "app-knows-no-workers": ("app/intake/keys.py", "import workers.notify"),
    "workers-know-no-edge": ("workers/notify.py", "import app.api"),
    "stages": ("workers/settle.py", "import workers.infer"),
    "flask": ("app/broker/ring.py", "import flask"),
    "sqlalchemy": ("app/intake/registry.py", "import sqlalchemy"),
    "celery": ("workers/pipeline.py", "import celery"),
    "storage": ("app/intake/files.py", "import boto3"),
    "torch": ("workers/infer.py", "import torch"),
    "egress": ("workers/infer.py", "import workers.egress"),
}


def contracts() -> list[str]:
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    prefix = "importlinter:contract:"
    return [section.removeprefix(prefix) for section in config.sections() if section.startswith(prefix)]


def lint(folder: Path, *contract: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-c",
        "from importlinter.cli import lint_imports_command as c; c()",
        "--no-cache",
    ]
    for name in contract:
        command += ["--contract", name]
    return subprocess.run(
        [*command, "--config", str(ROOT / "setup.cfg")],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for package in ("app", "workers"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_every_contract_is_tried() -> None:
    assert sorted(VIOLATIONS) == sorted(contracts())


def test_every_contract_holds(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("contract", sorted(VIOLATIONS))
def test_a_seeded_violation_is_found(copy: Path, contract: str) -> None:
    name, line = VIOLATIONS[contract]
    file = copy / name
    file.write_text(f"{file.read_text()}\n{line}\n")
    done = lint(copy, contract)
    assert done.returncode == 1, done.stdout
    assert "BROKEN" in done.stdout


def loaded_by(module: str) -> set[str]:
    settings = {
        "HEADRACE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none",
        "HEADRACE_REDIS_URL": "redis://127.0.0.1:1/0",
        "HEADRACE_SECRET_KEY": "x" * 32,
    }
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {module}; print(*sys.modules, sep='\\n')"],
        env=settings,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {name.partition(".")[0] for name in done.stdout.split()}


def test_the_api_loads_no_torch_and_no_workers() -> None:
    assert loaded_by("app.wsgi") & {"torch", "transformers", "workers"} == set()


def test_the_workers_load_no_flask_and_no_torch() -> None:
    assert loaded_by("workers.tasks") & {"flask", "torch", "transformers", "aiohttp"} == set()


def test_the_clerk_loads_no_flask_no_torch_and_no_way_out() -> None:
    assert loaded_by("workers.bulk.tasks") & {"flask", "torch", "transformers", "aiohttp"} == set()


def test_the_sender_loads_no_flask_and_no_torch() -> None:
    assert loaded_by("workers.webhooks.tasks") & {"flask", "torch", "transformers"} == set()
