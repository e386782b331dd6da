"""What `up` decides: whose servers, which addresses, which programs, and who gets to see the secrets."""

import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.embedded import plan
from app.embedded.errors import StackError
from app.embedded.plan import Options, Plan
from app.embedded.programs import Worker
from app.embedded.state import StateDir

OWN_SERVERS = {
    "HEADRACE_DATABASE_URL": "postgresql://me:mine@db.example:5432/jobs",
    "HEADRACE_REDIS_URL": "redis://:mine@redis.example:6379/3",
}


@pytest.fixture
def state(tmp_path: Path) -> StateDir:
    made = StateDir(tmp_path / "state")
    made.create()
    return made


def names(planned: Plan) -> list[str]:
    return [program.name for program in planned.programs]


def test_with_servers_of_the_user_nothing_is_embedded(state: StateDir) -> None:
    planned = plan.make(state, Options(), OWN_SERVERS)
    workers = ["worker-interactive", "worker-batch", "sender", "clerk"]
    assert names(planned) == ["api", *workers, "scheduler", "flower"]
    assert planned.postgres is None
    assert OWN_SERVERS.items() <= planned.env.items()
    assert not state.postgres.exists()


def test_the_users_servers_are_remembered(state: StateDir) -> None:
    state.write_env(plan.make(state, Options(), OWN_SERVERS).env)
    assert OWN_SERVERS.items() <= plan.make(state, Options(), {}).env.items()


def test_an_up_in_a_shell_that_read_the_env_file_still_embeds(state: StateDir) -> None:
    environ = {"HEADRACE_DATABASE_URL": OWN_SERVERS["HEADRACE_DATABASE_URL"]}
    first = plan.make(state, Options(), environ)
    again = plan.make(state, Options(), {**environ, **first.env})
    assert "valkey" in names(again)
    assert again.env["HEADRACE_REDIS_URL"] == first.env["HEADRACE_REDIS_URL"]


def test_addresses_and_keys_stay(state: StateDir) -> None:
    first = plan.make(state, Options(), OWN_SERVERS)
    state.write_env({**first.env, "HEADRACE_API_KEY": "a-key"})
    assert plan.make(state, Options(), {}).env == {**first.env, "HEADRACE_API_KEY": "a-key"}


def test_a_port_that_was_taken_meanwhile_is_replaced(state: StateDir) -> None:
    first = plan.make(state, Options(), OWN_SERVERS)
    state.write_env(first.env)
    with socket.create_server(("127.0.0.1", urlsplit(first.env["HEADRACE_URL"]).port or 0)):
        second = plan.make(state, Options(), {})
    assert second.env["HEADRACE_URL"] != first.env["HEADRACE_URL"]
    assert second.env["HEADRACE_FLOWER_URL"] == first.env["HEADRACE_FLOWER_URL"]


def test_a_port_the_user_asked_for_must_be_free(state: StateDir) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StackError, match=f"port {port} is in use"):
            plan.make(state, Options(port=port), OWN_SERVERS)


def test_given_workers_replace_the_default_ones(state: StateDir) -> None:
    workers = [Worker.parse("fast:cpu.interactive,cpu.batch:4"), Worker.parse("slow:cpu.batch")]
    planned = plan.make(state, Options(workers=workers), OWN_SERVERS)
    assert names(planned) == ["api", "worker-fast", "worker-slow", "sender", "clerk", "scheduler", "flower"]
    fast = planned.programs[1]
    assert fast.environment["HEADRACE_WORKER_POOL"] == "fast"
    assert " -n fast@%h -Q cpu.interactive,cpu.batch -c 4 " in " ".join(fast.command)


def test_every_process_but_flower_shares_its_metrics(state: StateDir) -> None:
    services = [item for item in plan.make(state, Options(), OWN_SERVERS).programs if not item.server]
    apart = [item.name for item in services if "PROMETHEUS_MULTIPROC_DIR" not in item.environment]
    assert apart == ["flower"]


def test_workers_of_one_name_are_refused(state: StateDir) -> None:
    workers = [Worker.parse("a:cpu.batch"), Worker.parse("a:cpu.interactive")]
    with pytest.raises(StackError, match="a name of its own"):
        plan.make(state, Options(workers=workers), OWN_SERVERS)


@pytest.mark.parametrize(
    "text", ["", "a", "a:", "A:cpu.batch", "a:cpu.bulk", "a:cpu.batch:0", "a:cpu.batch:x"]
)
def test_a_wrong_worker_is_one_clear_line(text: str) -> None:
    with pytest.raises(StackError, match=r"^--worker "):
        Worker.parse(text)


def test_no_secret_is_in_an_argument(state: StateDir) -> None:
    environ = {"HEADRACE_DATABASE_URL": OWN_SERVERS["HEADRACE_DATABASE_URL"]}
    planned = plan.make(state, Options(), environ)
    told = " ".join(word for program in planned.programs for word in program.argv)
    assert "valkey" in told
    for name in ("valkey", "flower", "postgres"):
        assert state.password(name) not in told
    assert planned.env["HEADRACE_SECRET_KEY"] not in told
    assert "mine" not in told


def test_files_are_kept_in_the_state_dir_unless_the_user_says_where(state: StateDir) -> None:
    first = plan.make(state, Options(), OWN_SERVERS).env
    assert first["HEADRACE_STORAGE_URL"] == state.storage.as_uri()
    own = plan.make(state, Options(), {**OWN_SERVERS, "HEADRACE_STORAGE_URL": "s3://mine/files"}).env
    assert own["HEADRACE_STORAGE_URL"] == "s3://mine/files"
    state.write_env(own)
    assert plan.make(state, Options(), {}).env["HEADRACE_STORAGE_URL"] == "s3://mine/files"


def test_files_move_with_the_state_dir(state: StateDir, tmp_path: Path) -> None:
    state.write_env(plan.make(state, Options(), OWN_SERVERS).env)
    moved = StateDir(state.root.rename(tmp_path / "moved"))
    assert plan.make(moved, Options(), {}).env["HEADRACE_STORAGE_URL"] == moved.storage.as_uri()
