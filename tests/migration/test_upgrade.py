"""The previous version's code on this version's schema, as it is after `headracectl migrate`.

What is tried is the code itself, from the history, with its own tests and with the new migrations.
"""

import io
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from uuid import UUID

import pytest

from app.db import conservation
from app.domain.states import JobStatus
from tests.support.jobs import Queue, succeeded
from workers.settle import settle

ROOT = Path(__file__).resolve().parents[2]
PREVIOUS = "1a955e8baa3920809635d3c761832b31c0f03cd4"
"""The commit that is upgraded from: the last release's. It had migrations up to 0008."""

_BOTH = """
import sys
from tests.support.jobs import Queue, succeeded
from workers.settle import settle

queue = Queue.open(sys.argv[1])
worker = queue.worker()
claimed = queue.claim(worker)
settle(queue.engine, worker, [succeeded(job) for job in claimed])
print(*(job.id for job in claimed))
print(*(queue.submit({"from": "previous"}) for _ in range(3)))
"""


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the previous version's code and tests, and this version's migrations."""
    archive = [
        "git",
        "archive",
        PREVIOUS,
        "app",
        "workers",
        "tests",
        "examples",
        "setup.cfg",
        "pyproject.toml",
    ]
    if shutil.which("git") is None:
        pytest.skip("the previous version comes from the history, and git is not installed")
    done = subprocess.run(archive, cwd=ROOT, capture_output=True, check=False)
    if done.returncode:
        pytest.skip("the previous version is not in this clone's history: git fetch --unshallow")
    folder = tmp_path_factory.mktemp("previous")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as files:
        files.extractall(folder, filter="data")
    shutil.copytree(ROOT / "migrations", folder / "migrations")
    return folder


def run(folder: Path, *words: str) -> str:
    """Run Python with a folder's code in place of ours, and return what it prints."""
    environment = {**os.environ, "PYTHONPATH": str(folder)}
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_previous_versions_tests_pass_on_this_schema(previous: Path, tmp_path: Path) -> None:
    verbs = ("test_accept.py", "test_claim_and_settle.py")
    files = [f"tests/integration/{name}" for name in verbs]
    run(previous, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'inner'}", *files)


def test_it_is_the_previous_code_that_runs(previous: Path) -> None:
    where = run(previous, "-c", "import app, workers.settle; print(app.__file__, workers.settle.__file__)")
    assert all(path.startswith(str(previous)) for path in where.split())


def test_both_versions_work_on_one_queue(previous: Path, database_url: str) -> None:
    queue = Queue.open(database_url)
    ours = {queue.submit({"from": "this", "long": "x" * 9000}) for _ in range(3)}
    claimed, submitted = run(previous, "-c", _BOTH, database_url).splitlines()[-2:]
    assert {UUID(id) for id in claimed.split()} == ours, "the previous version runs what this one accepted"
    worker = queue.worker()
    theirs = queue.claim(worker)
    assert {job.id for job in theirs} == {UUID(id) for id in submitted.split()}
    settle(queue.engine, worker, [succeeded(job, b"{}") for job in theirs])
    ended = queue.execute("SELECT status, count(*) FROM job_results GROUP BY status")
    assert [tuple(row) for row in ended] == [(JobStatus.SUCCEEDED, 6)]
    assert not conservation.check(queue.engine).violations
    queue.engine.dispose()
