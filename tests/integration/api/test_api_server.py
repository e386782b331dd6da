"""The real server: gunicorn's processes, sockets and signals."""

import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import orjson
import psutil
import pytest
import requests

from app import probe
from tests.integration.api.client import Api
from tests.integration.api.server import COMMAND, Server, environment, serve
from tests.support.waiting import wait_until

JOB = {"model": "echo", "input": {}}


@pytest.fixture
def server(api: Api, tmp_path: Path) -> Iterator[Server]:
    """One process, so that nothing can hide in another."""
    with serve(
        api.settings, tmp_path, HEADRACE_API_PROCESSES="1", HEADRACE_API_MAX_BODY_BYTES="100000"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def shared(module_api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The same for all tests that leave it running: whatever one of them sends, the next is served."""
    with serve(
        module_api.settings,
        tmp_path_factory.mktemp("server"),
        HEADRACE_API_PROCESSES="1",
        HEADRACE_API_MAX_BODY_BYTES="100000",
    ) as server:
        yield server


def test_a_health_check_asks_as_the_settings_have_it(shared: Server, module_api: Api) -> None:
    told = environment(module_api.settings, HEADRACE_API_BIND=f"0.0.0.0:{shared.port}")
    assert (probe.ask("/livez", told), probe.ask("/readyz", told)) == (200, 200)


def talk(server: Server, text: bytes) -> bytes:
    """Send these bytes and read until the server closes."""
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(text)
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    return answer


def test_a_request_that_waits_for_postgres_holds_up_nobody(module_api: Api, shared: Server) -> None:
    """One process, one thread: this only works if the database driver yields."""
    headers = {"Authorization": f"Bearer {module_api.key}", "Idempotency-Key": "k"}
    with module_api.queue.engine.connect() as first, ThreadPoolExecutor(1) as pool:
        transaction = first.execution_options(isolation_level="READ COMMITTED").begin()
        first.exec_driver_sql(
            "INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id)"
            " VALUES (%s, 'jobs', 'k', ''::bytea, gen_random_uuid())",
            (module_api.queue.tenant_id,),
        )
        blocked = pool.submit(requests.post, f"{shared.url}/v1/jobs", json=JOB, headers=headers, timeout=30)
        wait_until(
            lambda: module_api.queue.execute("SELECT FROM pg_stat_activity WHERE wait_event_type = 'Lock'"),
            10,
            "the lock",
        )
        for _ in range(5):
            assert requests.get(f"{shared.url}/v1/jobs", headers=headers, timeout=3).status_code == 200
        assert not blocked.done()
        transaction.rollback()
        assert blocked.result(20).status_code == 202


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (b"NONSENSE\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n", 431),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: x\r\n\r\n", 501),
    ],
)
def test_what_gunicorn_refuses_is_a_problem_too(shared: Server, text: bytes, status: int) -> None:
    head, _, body = talk(shared, text).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d" % status)
    assert b"application/problem+json" in head
    problem = orjson.loads(body)
    assert problem["status"] == status
    assert problem["request_id"].encode() in head


def test_bodies_over_the_limit_by_length_and_by_chunks(module_api: Api, shared: Server) -> None:
    headers = {"Authorization": f"Bearer {module_api.key}", "Content-Type": "application/json"}
    body = orjson.dumps({"model": "echo", "input": {"text": "x" * 200_000}})
    written = module_api.jobs_written()
    pieces = (body[at : at + 1000] for at in range(0, len(body), 1000))
    with requests.Session() as session:
        for data in (body, pieces):
            answer = session.post(f"{shared.url}/v1/jobs", data=data, headers=headers, timeout=20)
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            # The connection is in order: the next request on it is understood.
            assert session.get(f"{shared.url}/livez", timeout=20).json() == {"status": "ok"}
        small = session.post(
            f"{shared.url}/v1/jobs", data=iter([orjson.dumps(JOB)]), headers=headers, timeout=20
        )
        assert small.status_code == 202
    assert module_api.jobs_written() == written + 1


def test_a_body_that_breaks_off_or_lies_writes_nothing(module_api: Api, shared: Server) -> None:
    head = b"POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    head += f"Authorization: Bearer {module_api.key}\r\n".encode()
    body = orjson.dumps(JOB)
    written = module_api.jobs_written()
    with socket.create_connection(("127.0.0.1", shared.port), 20) as connection:
        connection.sendall(head + b"Content-Length: 500\r\n\r\n" + body)
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65_536)[9:12] in (b"400", b"")
    answer = talk(shared, head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + body + b"\r\n0\r\n\r\n")
    assert answer[9:12] == b"400"
    assert b"application/problem+json" in answer
    assert requests.get(f"{shared.url}/livez", timeout=20).ok
    assert module_api.jobs_written() == written


def test_told_to_end_it_answers_what_it_holds_and_ends_at_once(api: Api, server: Server) -> None:
    headers = {"Authorization": f"Bearer {api.key}"}
    idle = requests.Session()
    assert idle.get(f"{server.url}/livez", timeout=20).ok
    with ThreadPoolExecutor(2) as pool:
        job = requests.post(f"{server.url}/v1/jobs", json=JOB, headers=headers, timeout=20).json()
        waiting = pool.submit(
            requests.get, job["urls"]["get"], headers=headers | {"Prefer": "wait=60"}, timeout=90
        )
        following = pool.submit(requests.get, job["urls"]["events"], headers=headers, timeout=90)
        gauge = "headrace_http_waiting 2.0"
        wait_until(lambda: gauge in requests.get(f"{server.url}/metrics", timeout=20).text, 20, "both")
        began = time.monotonic()
        server.process.terminate()
        assert waiting.result(20).json()["status"] == "queued"
        assert "event: status" in following.result(20).text
    assert server.process.wait(20) == 0
    assert time.monotonic() - began < 8
    assert "Traceback" not in server.log.read_text()


def test_a_reload_under_load_refuses_and_loses_nothing(api: Api, tmp_path: Path) -> None:
    """Kept connections whose clients never pause, and new ones: all are answered while processes change."""
    headers = {"Authorization": f"Bearer {api.key}"}
    over = threading.Event()
    with serve(api.settings, tmp_path, HEADRACE_API_PROCESSES="2") as server, ThreadPoolExecutor(8) as pool:
        master = psutil.Process(server.process.pid)

        def submit(keep: bool) -> list[str]:
            made = []
            with requests.Session() as session:
                while not over.is_set():
                    post = session.post if keep else requests.post
                    answer = post(f"{server.url}/v1/jobs", json=JOB, headers=headers, timeout=30)
                    assert answer.status_code == 202, answer.text
                    made.append(answer.json()["id"])
            return made

        clients = [pool.submit(submit, keep) for keep in (True, False) * 4]
        try:
            for _ in range(2):
                before = set(master.children())
                server.process.send_signal(signal.SIGHUP)
                wait_until(lambda old=before: not old & set(master.children()), 30, "the old ones' end")
                wait_until(lambda: len(master.children()) == 2, 30, "the new ones")
            requests.get(f"{server.url}/livez", timeout=30)
        finally:
            over.set()
        made = [job_id for client in clients for job_id in client.result(30)]
    assert len(set(made)) == len(made) == api.jobs_written() > 0


def test_a_request_that_came_before_the_end_is_answered_though_nobody_had_time_to_read_it(
    server: Server,
) -> None:
    (process,) = psutil.Process(server.process.pid).children()
    request = b"GET /livez HTTP/1.1\r\nHost: h\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), 20) as connection:
        connection.sendall(request)
        assert b"200 OK" in connection.recv(65_536)
        process.suspend()
        process.terminate()
        connection.sendall(request)
        # Silent for longer than a process that ends waits for, by the clock that it will look at.
        since = time.monotonic()
        wait_until(lambda: time.monotonic() - since > 1, 5, "a while to pass")
        process.resume()
        assert b"200 OK" in connection.recv(65_536)


def test_metrics_are_those_of_all_processes(api: Api, tmp_path: Path) -> None:
    folder = tmp_path / "metrics"
    extra = {"HEADRACE_API_PROCESSES": "2", "HEADRACE_METRICS_DIR": str(folder)}
    with serve(api.settings, tmp_path, **extra) as server:
        asked = 0

        def ask() -> bool:
            """Over a new connection. Has each process counted some? The second may begin after the first."""
            nonlocal asked
            asked += 1
            assert requests.get(f"{server.url}/v1/jobs", timeout=20).status_code == 401
            return sum(b'"401"' in path.read_bytes() for path in folder.glob("counter_*.db")) == 2

        wait_until(ask, 60, "answers of both processes")
        text = requests.get(f"{server.url}/metrics", timeout=20).text
        line = 'headrace_http_requests_total{method="GET",route="/v1/jobs",status="401"} '
        assert f"{line}{asked}.0" in text


def test_its_log_is_json_without_secrets_whatever_was_sent(module_api: Api, shared: Server) -> None:
    """Also of what gunicorn refuses by itself, here and in the tests before."""
    key = module_api.key.encode()
    for text in (
        b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nAuthorization Bearer " + key + b"\r\n\r\n",
        b"GET /v1/jobs?key=" + key + b" HTTP/9.9\r\n\r\n",
        b"GET /v1/jobs HTTP/1.1\r\nHost: x\r\nBad(" + key + b"): 1\r\n\r\n",
    ):
        assert talk(shared, text).startswith(b"HTTP/1.1 400")
    headers = {"Authorization": f"Bearer {module_api.key}", "X-Request-Id": "mine"}
    requests.post(f"{shared.url}/v1/jobs", json=JOB, headers=headers, timeout=20)
    wait_until(lambda: "mine" in shared.log.read_text(), 10, "the log line")
    text = shared.log.read_text()
    lines = [orjson.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    refused = [line for line in lines if line["event"] == "server.refused"]
    assert len(refused) >= 3
    assert all(line["error"].startswith("gunicorn.") for line in refused)
    assert module_api.key.split("_")[2] not in text


@pytest.mark.parametrize("command", [COMMAND, [sys.executable, "-c", "import app.wsgi"]])
def test_wrong_settings_are_told_line_by_line_and_no_traceback(api: Api, command: list[str]) -> None:
    wrong = environment(api.settings, HEADRACE_API_MAX_WAIT_S="x", HEADRACE_NONSENSE="1")
    del wrong["HEADRACE_SECRET_KEY"]
    done = subprocess.run(command, env=wrong, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 3
    for name in ("HEADRACE_API_MAX_WAIT_S", "HEADRACE_NONSENSE", "HEADRACE_SECRET_KEY"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr


def test_the_server_loads_neither_torch_nor_workers(api: Api) -> None:
    program = (
        "import sys, app.wsgi\n"
        "bad = {'torch', 'transformers', 'workers', 'numpy'} & {name.split('.')[0] for name in sys.modules}\n"
        "assert not bad, bad"
    )
    subprocess.run([sys.executable, "-c", program], env=environment(api.settings), timeout=60, check=True)
