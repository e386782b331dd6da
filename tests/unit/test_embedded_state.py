"""The state dir keeps secrets to its owner, and `DIR/env` says the same to a shell and to us."""

import stat
import subprocess
from pathlib import Path

import pytest

from app.embedded.errors import StackError
from app.embedded.state import StateDir

AWKWARD = {"HEADRACE_URL": "http://h:1/", "HEADRACE_STATE_DIR": "/a b/'c'", "HEADRACE_X": "p&q=$r#s"}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "state")
    made.create()
    return made


def test_env_reads_back_what_was_written(state: StateDir) -> None:
    state.write_env(AWKWARD)
    assert state.read_env() == AWKWARD


def test_env_can_be_sourced_by_a_shell(state: StateDir) -> None:
    state.write_env(AWKWARD)
    script = f"set -a; . '{state.env_file}'; printf '%s|' \"$HEADRACE_STATE_DIR\" \"$HEADRACE_X\""
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == f"{AWKWARD['HEADRACE_STATE_DIR']}|{AWKWARD['HEADRACE_X']}|"


def test_files_with_secrets_are_private(state: StateDir) -> None:
    state.write_env(AWKWARD)
    state.password("postgres")
    for path in state.root.iterdir():
        if path.is_file():
            assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_password_is_made_once(state: StateDir) -> None:
    first = state.password("postgres")
    assert state.password("valkey") != first
    assert StateDir(state.root).password("postgres") == first


def test_the_environment_comes_before_the_file(state: StateDir) -> None:
    state.write_env({"HEADRACE_URL": "file", "HEADRACE_API_KEY": "file"})
    loaded = StateDir.load_environment(state.root, {"HEADRACE_URL": "environment", "HOME": "/h"})
    assert loaded == {"HEADRACE_URL": "environment", "HEADRACE_API_KEY": "file", "HOME": "/h"}


def test_the_state_dir_is_the_given_one_else_the_environments_else_the_default(tmp_path: Path) -> None:
    environ = {"HEADRACE_STATE_DIR": str(tmp_path / "b")}
    assert StateDir.choose(tmp_path / "a", environ).root == tmp_path / "a"
    assert StateDir.choose(None, environ).root == tmp_path / "b"
    assert StateDir.choose(None, {}).root == Path.cwd() / ".headrace"


def test_a_short_path_has_its_socket_in_the_state_dir() -> None:
    assert StateDir(Path("/s")).supervisor_socket == Path("/s/supervisor.sock")


def test_a_long_path_has_its_socket_in_a_private_folder(tmp_path: Path) -> None:
    deep = StateDir(tmp_path / ("d" * 100))
    deep.create()
    folder = deep.supervisor_socket.parent
    assert len(str(deep.supervisor_socket)) < 90
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert deep.supervisor_socket != StateDir(tmp_path / ("e" * 100)).supervisor_socket
    folder.chmod(0o777)
    with pytest.raises(StackError, match="only you can open"):
        _ = deep.supervisor_socket
    folder.chmod(0o700)
    deep.forget_socket()
    assert not folder.exists()


def test_two_do_not_work_on_one_state_dir_at_a_time(state: StateDir) -> None:
    with (
        state.locked(),
        pytest.raises(StackError, match="another up or down"),
        StateDir(state.root).locked(),
    ):
        pass


def test_a_file_in_the_way_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StackError, match=r"can't use .*/file as state dir"):
        StateDir(tmp_path / "file").create()
