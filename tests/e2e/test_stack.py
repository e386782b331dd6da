"""`headracectl up` as a user meets it: everything runs, what dies comes back, nothing stays behind."""

import contextlib
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import requests

from app.embedded.state import StateDir
from tests.support import stacks
from tests.support.models import EXAMPLES
from tests.support.stacks import HEADRACECTL, RunningStack
from tests.support.waiting import wait_until

MakeStack = Callable[..., RunningStack]

SERVERS = ["postgres", "valkey"]
SUPERVISED = [*SERVERS, "api", "worker-interactive", "worker-batch", "sender", "clerk", "scheduler", "flower"]

# One worker with one slot: a stack that starts fast.
SMALL = ("small:cpu.interactive,cpu.batch:1",)


@pytest.fixture(scope="module")
def rough(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The stack behind `shaken`, in whatever state a test leaves it."""
    with stacks.stack(tmp_path_factory.mktemp("shaken") / "state", start=False) as made:
        yield made


@pytest.fixture
def shaken(rough: RunningStack) -> RunningStack:
    """A running stack beside `stack`, to kill processes of and to stop; the next test finds it up again."""
    if not rough.processes():
        rough.up()
    return rough


def submit(stack: RunningStack, value: object) -> str:
    answer = stack.request(
        "POST",
        "/v1/jobs",
        json={"model": "echo", "input": {"value": value}},
        headers={"Idempotency-Key": str(uuid4())},
    )
    assert answer.status_code == 202, answer.text
    return answer.json()["id"]


def succeeded(stack: RunningStack, job: str) -> bool:
    answer = stack.request("GET", f"/v1/jobs/{job}")
    return answer.status_code == 200 and answer.json()["status"] == "succeeded"


def works(stack: RunningStack) -> str:
    """Run a job to its end and return its id."""
    job = submit(stack, "hello")
    wait_until(lambda: succeeded(stack, job), 60, "the job to succeed")
    return job


def test_everything_runs_and_serves(stack: RunningStack) -> None:
    listed = json.loads(stack.headracectl("status", "--json").stdout)["processes"]
    states = {item["name"]: item["state"] for item in listed}
    assert set(SUPERVISED) <= set(states)
    assert set(states.values()) == {"RUNNING"}
    assert "worker-interactive/child-1" in states
    works(stack)


def test_flower_asks_for_the_login_of_the_env_file(stack: RunningStack) -> None:
    assert requests.get(f"{stack.flower_url}/api/workers?refresh=true", timeout=30).ok
    bare = stack.flower_url.replace(stack.flower_url.split("//")[1].split("@")[0] + "@", "")
    assert requests.get(bare, timeout=30).status_code == 401


def test_no_secret_shows_in_the_list_of_processes(stack: RunningStack) -> None:
    secrets = [stack.api_key, stack.env["HEADRACE_SECRET_KEY"]]
    secrets += [StateDir(stack.state_dir).password(name) for name in ("postgres", "valkey", "flower")]
    seen = 0
    for process in stack.remains():
        with contextlib.suppress(psutil.NoSuchProcess):  # as a connection's, which just closed
            command = " ".join(process.cmdline())
            seen += 1
            assert not [secret for secret in secrets if secret in command]
    assert seen >= len(SUPERVISED)


def test_only_the_owner_can_read_what_is_private(stack: RunningStack) -> None:
    private = [path for path in stack.state_dir.iterdir() if path.is_file() and path.name != "lock"]
    private += list((stack.state_dir / "logs").iterdir())
    assert private
    for path in private:
        assert path.stat().st_mode & 0o077 == 0, path


@pytest.mark.parametrize("name", [*SUPERVISED, "worker-interactive/child-1", "reaper"])
def test_what_is_killed_comes_back(shaken: RunningStack, name: str) -> None:
    killed = shaken.kill(name)
    wait_until(lambda: shaken.pid(name) not in (None, killed), 60, f"{name} to come back")
    shaken.wait_ready()
    works(shaken)


def test_no_child_outlives_a_killed_worker(shaken: RunningStack) -> None:
    children = psutil.Process(shaken.pid("worker-interactive")).children()
    assert children
    shaken.kill("worker-interactive")
    wait_until(lambda: not any(child.is_running() for child in children), 20, "the children to die")
    shaken.wait_ready()


def test_a_killed_supervisor_leaves_nothing_in_the_way(shaken: RunningStack) -> None:
    job = works(shaken)
    before = {process.pid for process in shaken.remains()}
    os.kill(int((shaken.state_dir / "supervisor.pid").read_text()), signal.SIGKILL)
    shaken.up()
    assert succeeded(shaken, job)
    assert not before & {process.pid for process in shaken.remains()}
    works(shaken)


def test_stacks_run_side_by_side(stack: RunningStack, shaken: RunningStack) -> None:
    assert not set(shaken.env.values()) & {stack.url, stack.database_url, stack.redis_url}
    works(shaken)
    works(stack)


def test_down_leaves_nothing_and_up_goes_on_with_the_data(stack: RunningStack, shaken: RunningStack) -> None:
    job = works(shaken)
    before = shaken.env
    shaken.down()
    assert shaken.remains() == []
    assert shaken.processes() == []
    works(stack)  # which is none of its business
    shaken.up()
    assert shaken.env == before
    assert succeeded(shaken, job)
    works(shaken)


def test_down_lets_everything_else_finish_before_the_servers(shaken: RunningStack) -> None:
    log = shaken.state_dir / "logs" / "supervisord.log"
    earlier = len(log.read_text())
    shaken.down()
    assert shaken.remains() == []
    lines = log.read_text()[earlier:].splitlines()
    stopped = [line.split("stopped: ")[1] for line in lines if "stopped: " in line]
    names = [line.split()[0] for line in stopped]
    services = len(SUPERVISED) - len(SERVERS)
    assert set(names[:services]) == set(SUPERVISED) - set(SERVERS)
    assert set(names[services : len(SUPERVISED)]) == set(SERVERS)
    assert all("SIGKILL" not in line for line in stopped)


def test_a_second_up_is_refused_and_changes_nothing(stack: RunningStack) -> None:
    before = stack.processes()
    done = stack.headracectl("up", "--detach", "--model", f"{EXAMPLES / 'echo.py'}:Echo")
    assert done.returncode == 1
    assert "already runs" in done.stderr
    assert "headracectl models register" in done.stderr
    assert stack.processes() == before


def test_in_the_foreground_it_stops_when_asked(make_stack: MakeStack) -> None:
    stack = make_stack(start=False)
    with subprocess.Popen(
        [HEADRACECTL, "up", "--state-dir", str(stack.state_dir), "--worker", SMALL[0]],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        said = [line for line in iter(process.stdout.readline, "ready; Ctrl-C stops it\n") if line]
        assert f"API     {stack.url}\n" in said
        works(stack)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert stack.remains() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_in_the_foreground_it_ends_with_a_killed_up(make_stack: MakeStack) -> None:
    stack = make_stack(start=False)
    with subprocess.Popen(
        [HEADRACECTL, "up", "--state-dir", str(stack.state_dir), "--worker", SMALL[0]],
        stdout=subprocess.DEVNULL,
    ) as process:
        wait_until(lambda: stack.pid("api"), 60, "the stack to start")
        process.kill()
    wait_until(lambda: not stack.remains(), 60, "the stack to end")


@pytest.mark.parametrize(
    ("name", "url", "said"),
    [
        ("HEADRACE_DATABASE_URL", "postgresql://me:hidden@127.0.0.1:1/jobs", "Postgres at 127.0.0.1:1/jobs"),
        ("HEADRACE_REDIS_URL", "redis://:hidden@127.0.0.1:1/0", "Redis at 127.0.0.1:1/0"),
    ],
)
def test_a_missing_server_is_one_clear_line(make_stack: MakeStack, name: str, url: str, said: str) -> None:
    stack = make_stack(start=False, environ={name: url})
    done = stack.headracectl("up", "--detach")
    assert done.returncode == 1
    assert f"Error: {said} is out of reach: " in done.stderr
    assert len([line for line in done.stderr.splitlines() if not line.startswith("note:")]) == 1
    assert "hidden" not in done.stderr
    assert stack.remains() == []


def test_servers_of_the_user_are_used(make_stack: MakeStack, empty_database_url: str, redis_url: str) -> None:
    environ = {"HEADRACE_DATABASE_URL": empty_database_url, "HEADRACE_REDIS_URL": redis_url}
    stack = make_stack(environ=environ, workers=SMALL)
    assert {"postgres", "valkey"}.isdisjoint(item.name for item in stack.processes())
    works(stack)


def test_what_does_not_start_is_named_with_the_end_of_its_log(make_stack: MakeStack) -> None:
    stack = make_stack(start=False, environ={"HEADRACE_WORKER_DEVICE": "abacus"})
    done = stack.headracectl("up", "--detach", timeout_s=150)
    assert done.returncode == 1
    assert "HEADRACE_WORKER_DEVICE" in done.stderr
    assert stack.remains() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to become someone else")
def test_an_ordinary_user_can_run_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    nobody = pwd.getpwnam("nobody")
    folder = Path("/var/tmp") / f"headrace-test-{os.getpid()}"
    if not _can_run(nobody):
        pytest.skip("this Python and this checkout are closed to other users")
    folder.mkdir()
    try:
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)

        def run(*arguments: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [HEADRACECTL, *arguments, "--state-dir", str(folder / "state")],
                user=nobody.pw_uid,
                group=nobody.pw_gid,
                extra_groups=[],
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder)},
                capture_output=True,
                text=True,
                timeout=150,
                check=False,
            )

        stack = RunningStack(folder / "state")
        try:
            done = run("up", "--detach", "--worker", SMALL[0])
            assert done.returncode == 0, done.stderr
            works(stack)
            assert {process.username() for process in stack.remains()} == {"nobody"}
        finally:
            assert run("down").returncode == 0
        assert stack.remains() == []
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _can_run(user: pwd.struct_passwd) -> bool:
    try:
        return (
            subprocess.run(
                [HEADRACECTL, "--help"],
                user=user.pw_uid,
                group=user.pw_gid,
                extra_groups=[],
                cwd="/",
                capture_output=True,
                check=False,
            ).returncode
            == 0
        )
    except OSError:
        return False
