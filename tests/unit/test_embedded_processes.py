"""No process outlives its stack: it dies with its parent, and is found when it did not."""

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from app.embedded import account, leftovers, reach
from app.embedded.child import wrap
from app.embedded.errors import StackError
from tests.support.waiting import wait_until

_WAIT_FOR_EVER = "import signal; print('up', flush=True); signal.pause()"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_child_dies_with_a_parent_that_is_killed() -> None:
    child = wrap([sys.executable, "-c", _WAIT_FOR_EVER])
    script = f"import subprocess; p = subprocess.Popen({child!r}); print(p.pid, flush=True); p.wait()"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        pid = int((said - {"up"}).pop())
        os.kill(parent.pid, signal.SIGKILL)
        wait_until(lambda: not _lives(pid), 10, "the child to die")


def test_a_child_gets_only_what_it_may_know() -> None:
    command = [sys.executable, "-c", "import json, os; print(json.dumps(dict(os.environ)))"]
    done = subprocess.run(
        wrap(command, keep_env=["KEPT"]),
        env={**os.environ, "KEPT": "1", "SECRET": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    environ = json.loads(done.stdout)
    assert environ["KEPT"] == "1"
    assert "SECRET" not in environ


def test_processes_are_found_by_their_mark_with_their_children_and_ended(tmp_path: Path) -> None:
    # The child drops the mark, as one that clears its environment would.
    script = (
        "import subprocess, sys, signal;"
        f"subprocess.Popen([sys.executable, '-c', {_WAIT_FOR_EVER!r}], env={{}}); signal.pause()"
    )
    marked = {**os.environ, **leftovers.mark(tmp_path)}
    process = subprocess.Popen([sys.executable, "-c", script], env=marked, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    found = leftovers.find(tmp_path, tmp_path / "postgres")
    assert process.pid in [item.pid for item in found]
    assert len(found) == 2
    assert len(leftovers.end(tmp_path, tmp_path / "postgres")) == 2
    process.wait(timeout=10)
    process.stdout.close()
    assert leftovers.find(tmp_path, tmp_path / "postgres") == []
    assert leftovers.end(tmp_path, tmp_path / "postgres") == []


def test_folders_are_opened_for_passing_through_only(tmp_path: Path) -> None:
    private = tmp_path / "private"
    inner = private / "inner"
    inner.mkdir(parents=True)
    private.chmod(0o700)
    (private / "secret").write_text("")
    (private / "secret").chmod(0o600)
    assert private in account.open_path(inner)
    assert stat.S_IMODE(private.stat().st_mode) == 0o701
    assert stat.S_IMODE((private / "secret").stat().st_mode) == 0o600
    assert account.open_path(inner) == []


@pytest.mark.parametrize(
    ("check", "url", "said"),
    [
        (reach.postgres, "postgresql://me:hidden@127.0.0.1:1/jobs", "Postgres at 127.0.0.1:1/jobs is out"),
        (reach.valkey, "redis://:hidden@127.0.0.1:1/0", "Redis at 127.0.0.1:1/0 is out of reach"),
    ],
)
def test_a_server_out_of_reach_is_one_line_without_its_password(check, url, said) -> None:
    with pytest.raises(StackError) as caught:
        check(url)
    assert said in str(caught.value)
    assert "hidden" not in str(caught.value)
    assert "\n" not in str(caught.value)


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
