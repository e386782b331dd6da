"""A Redis that answers and refuses: full, a replica, unable to save, stuck, with another password.

It is no more use than one that is away, and nothing else may happen.
"""

import contextlib
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.integration.api.client import Api
from tests.integration.api.conftest import open_api
from tests.support import servers
from tests.support.lone_worker import lone_worker
from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until
from workers.maintenance.sweep import Sweep

SOON_S = 20


@dataclass(frozen=True)
class Server:
    """A Valkey of this module alone, and a connection that was there before the harm."""

    url: str
    folder: Path
    admin: "redis.Redis"


def full(server: Server) -> Iterator[None]:
    server.admin.config_set("maxmemory", "1")
    yield
    server.admin.config_set("maxmemory", "0")


def replica(server: Server) -> Iterator[None]:
    server.admin.replicaof("127.0.0.1", 1)
    yield
    server.admin.replicaof("NO", "ONE")


def can_not_save(server: Server) -> Iterator[None]:
    shutil.rmtree(server.folder)
    server.admin.config_set("save", "3600 1")
    with contextlib.suppress(redis.ResponseError):
        server.admin.bgsave()
    wait_until(lambda: server.admin.info("persistence")["rdb_last_bgsave_status"] == "err", 10, "the failure")
    yield
    server.folder.mkdir()
    server.admin.config_set("save", "")


def stuck_in_a_script(server: Server) -> Iterator[None]:
    server.admin.config_set("busy-reply-threshold", "50")

    def run() -> None:
        with redis.Redis.from_url(server.url) as client, contextlib.suppress(redis.RedisError):
            client.eval("while true do end", 0)

    thread = threading.Thread(target=run)
    thread.start()
    yield
    server.admin.script_kill()
    thread.join(10)


def another_password(server: Server) -> Iterator[None]:
    before = server.admin.config_get("requirepass")["requirepass"]
    server.admin.config_set("requirepass", "rotated")
    server.admin.client_kill_filter(_type="normal", skipme=True)
    server.admin.client_kill_filter(_type="pubsub", skipme=True)
    yield
    server.admin.config_set("requirepass", before)


def no_connection_left(server: Server) -> Iterator[None]:
    before = server.admin.config_get("maxclients")["maxclients"]
    server.admin.config_set("maxclients", "1")
    server.admin.client_kill_filter(_type="normal", skipme=True)
    server.admin.client_kill_filter(_type="pubsub", skipme=True)
    yield
    server.admin.config_set("maxclients", before)


FAULTS: list[Callable[[Server], Iterator[None]]] = [
    full,
    replica,
    can_not_save,
    stuck_in_a_script,
    another_password,
    no_connection_left,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("faulty") / "valkey"
    folder.mkdir()
    with servers.redis(folder) as url:
        client = redis.Redis.from_url(url, single_connection_client=True)
        yield Server(url, folder, client)
        client.close()


@pytest.fixture(scope="module")
def api(server: Server, postgres_server: PostgresServer, template_database: str) -> Iterator[Api]:
    """An API in this process that limits requests."""
    with postgres_server.database(template_database) as url, open_api(url, server.url) as api:
        api.queue.execute("UPDATE tenants SET requests_per_minute = 100000")
        yield api


@pytest.fixture(scope="module")
def worker(api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator["subprocess.Popen[bytes]"]:
    """A Celery worker with one child."""
    log = tmp_path_factory.mktemp("worker") / "worker.log"
    with lone_worker(api.settings, log) as process:
        job = api.submit()
        wait_until(lambda: ended(api, job), 60, f"the worker, see {log}")
        yield process


def ended(api: Api, job: dict[str, Any]) -> bool:
    """As the scheduler does: a child that lingered when the harm was done costs a bell."""
    Sweep(api.queue.engine, api.app.extensions["headrace"].ringer, 5.0).run_once()
    return bool(api.get(f"/v1/jobs/{job['id']}").json["status"] == "succeeded")


@pytest.mark.parametrize("fault", FAULTS)
def test_jobs_are_accepted_and_run_and_all_is_well_again_after(
    fault: Callable[[Server], Iterator[None]], server: Server, api: Api, worker: "subprocess.Popen[bytes]"
) -> None:
    with contextlib.contextmanager(fault)(server):
        jobs = [api.submit() for _ in range(2)]
        wait_until(lambda: all(ended(api, job) for job in jobs), SOON_S, "jobs without Redis")
        wait_until(lambda: status(api) == "degraded", 10, "it to be noticed")
    wait_until(lambda: status(api) == "ready", 10, "Redis to be back")
    job = api.submit()
    wait_until(lambda: ended(api, job), SOON_S, "a job with Redis")
    assert worker.poll() is None, "the worker's parent goes on, and with it the models that it has loaded"


def status(api: Api) -> str:
    return str(api.get("/readyz").json["status"])
