"""The disk under the metrics' folder or the log is full, or no file can be opened: every process goes on."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from pydantic import SecretStr

from app.broker.ring import Ringer, doorbell_for
from app.domain.lanes import Lane
from tests.integration.api.conftest import open_api
from tests.integration.api.server import serve
from tests.support.jobs import Queue, settings_for
from tests.support.lone_worker import lone_worker
from tests.support.small_disk import SmallDisk, needs_small_disk, small_disk
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]

COUNT = """
import os, sys
from pathlib import Path
from app.observability import metrics, reserved
from tests.support.small_disk import SmallDisk

disk = SmallDisk(Path(sys.argv[1]))
def count(first, last):
    for n in range(first, last):
        metrics.HTTP_REQUESTS.labels("GET", f"/{n}", "200").inc()
def seen():
    return sum(b"headrace_http_requests_total{" in line for line in metrics.exposition().splitlines())
count(0, 10)
disk.fill()
count(10, 3000)
print(seen())
disk.free()
reserved.RETRY_S = 0
import time
time.monotonic = lambda: float("inf")
metrics.HTTP_REQUESTS.labels("GET", "/0", "200").inc()
print(seen())
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", 2) as mounted:
        yield mounted


def environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder), "PYTHONPATH": str(ROOT)}


@needs_small_disk
def test_a_process_counts_on_and_shows_it_once_there_is_room(disk: SmallDisk) -> None:
    """prometheus_client's own files end it by a SIGBUS."""
    folder = disk.folder / "metrics"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", COUNT, str(disk.folder)],
        env=environment(folder),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    while_full, after = map(int, done.stdout.split())
    assert 10 <= while_full < 3000
    assert after == 3000


@needs_small_disk
def test_an_api_starts_and_answers_on_a_full_disk(
    disk: SmallDisk, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    folder = disk.folder / "metrics"
    folder.mkdir()
    disk.fill()
    with open_api(database_url, redis_url) as api:
        extra = {
            "HEADRACE_API_PROCESSES": "1",
            "HEADRACE_METRICS_DIR": str(folder),
            "TMPDIR": str(disk.folder),
        }
        with serve(api.settings, tmp_path, **extra) as server:
            headers = {"Authorization": f"Bearer {api.key}"}
            body = {"model": "echo", "input": {}}
            for _ in range(3):
                answer = requests.post(f"{server.url}/v1/jobs", json=body, headers=headers, timeout=10)
                assert answer.status_code == 202, answer.text
            assert requests.get(f"{server.url}/metrics", timeout=10).status_code == 200


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_an_api_whose_log_can_not_be_written_answers(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "api.log").symlink_to("/dev/full")
    with (
        open_api(database_url, redis_url) as api,
        serve(api.settings, tmp_path, HEADRACE_API_PROCESSES="1") as server,
    ):
        headers = {"Authorization": f"Bearer {api.key}"}
        body = {"model": "echo", "input": {}}
        for _ in range(50):
            answer = requests.post(f"{server.url}/v1/jobs", json=body, headers=headers, timeout=10)
            assert answer.status_code == 202


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_worker_whose_log_can_not_be_written_works(queue: Queue, database_url: str, redis_url: str) -> None:
    """From its start on, where Celery would show a banner, and end."""
    job_id, ringer = queue.submit(), Ringer(SecretStr(redis_url))
    with lone_worker(settings_for(database_url, redis_url), Path("/dev/full")):
        ringer.ring(doorbell_for(queue.echo, Lane.INTERACTIVE))
        wait_until(lambda: queue.get(job_id).status == "succeeded", 60, "the job")


def test_an_api_whose_metrics_folder_can_not_be_made_shows_its_own(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with open_api(database_url, redis_url) as api:
        extra = {"HEADRACE_API_PROCESSES": "1", "HEADRACE_METRICS_DIR": str(tmp_path / "file" / "metrics")}
        with serve(api.settings, tmp_path, **extra) as server:
            shown = requests.get(f"{server.url}/metrics", timeout=10)
            assert "headrace_service_up" in shown.text
            assert "metrics are not shared" in server.log.read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is Linux's")
def test_an_api_out_of_open_files_answers_again_once_there_are_some(
    database_url: str, redis_url: str, tmp_path: Path
) -> None:
    import resource
    import socket

    import psutil

    with (
        open_api(database_url, redis_url) as api,
        serve(api.settings, tmp_path, HEADRACE_API_PROCESSES="1") as server,
        requests.Session() as kept,
    ):
        url = f"{server.url}/v1/jobs"
        headers, body = {"Authorization": f"Bearer {api.key}"}, {"model": "echo", "input": {}}
        assert kept.post(url, json=body, headers=headers, timeout=10).status_code == 202
        (worker,) = psutil.Process(server.process.pid).children()
        room = worker.num_fds() + 5
        worker.rlimit(resource.RLIMIT_NOFILE, (room, room))
        idle = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
        wait_until(lambda: worker.num_fds() >= room - 1, 10, "no file to be left")
        assert kept.post(url, json=body, headers=headers, timeout=10).status_code == 202
        for connection in idle:
            connection.close()
        wait_until(
            lambda: requests.post(url, json=body, headers=headers, timeout=10).status_code == 202,
            20,
            "a new connection to be answered",
        )
        assert psutil.Process(server.process.pid).children() == [worker], "it is the same process"
