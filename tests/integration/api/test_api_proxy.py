"""deploy/nginx/headrace.conf, run by nginx: TLS in front of two API servers. And the API's own TLS."""

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from app import probe
from app.embedded.ports import Ports
from tests.integration.api.client import Api
from tests.integration.api.conftest import open_api
from tests.integration.api.server import Server, environment, serve
from tests.support.certificates import Certificate, certificate
from tests.support.debian import program
from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until

CONFIG = Path(__file__).resolve().parents[3] / "deploy" / "nginx" / "headrace.conf"
JOB = {"model": "echo", "input": {}}


@dataclass(frozen=True)
class Edge:
    """nginx with its certificate, and the servers behind it."""

    url: str
    plain_url: str
    root: Path
    servers: list[Server]

    def session(self, api: Api) -> requests.Session:
        return trusting(self.root, api)


def trusting(root: Path, api: Api) -> requests.Session:
    """A client that trusts this certificate alone, whatever its environment says."""
    session = requests.Session()
    session.trust_env = False
    session.verify = str(root)
    session.headers["Authorization"] = f"Bearer {api.key}"
    return session


def configured(folder: Path, ports: tuple[int, int], servers: list[int], made: Certificate) -> Path:
    """The example with this machine's ports and files, in the least that nginx runs with."""
    text = CONFIG.read_text()
    for line in ("listen [::]:80;", "listen [::]:443 ssl http2;"):
        assert line in text
        text = text.replace(line, "")
    for old, new in {
        "listen 80;": f"listen 127.0.0.1:{ports[0]};",
        "listen 443 ssl": f"listen 127.0.0.1:{ports[1]} ssl",
        "127.0.0.1:8000": f"127.0.0.1:{servers[0]}",
        "127.0.0.1:8001": f"127.0.0.1:{servers[1]}",
        "/etc/nginx/tls/headrace.crt": str(made.certificate),
        "/etc/nginx/tls/headrace.key": str(made.key),
        "headrace.example.com": "localhost",
    }.items():
        assert old in text, old
        text = text.replace(old, new)
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = folder / "nginx.conf"
    path.write_text(
        f"daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;\n"
        f"events {{ worker_connections 4096; }}\nhttp {{ access_log off;\n{temporary}{text}}}\n"
    )
    return path


@contextmanager
def edge_of(api: Api, folder: Path) -> Iterator[Edge]:
    nginx = program("nginx", "nginx")
    made = certificate(folder / "tls")
    with ExitStack() as stack:
        ports = Ports()
        plain, tls = ports.take(), ports.take()
        url = f"https://localhost:{tls}"
        servers = []
        for name in ("one", "two"):
            (folder / name).mkdir()
            extra = {"HEADRACE_API_PROCESSES": "1", "HEADRACE_API_PUBLIC_URL": url}
            servers.append(stack.enter_context(serve(api.settings, folder / name, **extra)))
        path = configured(folder, (plain, tls), [server.port for server in servers], made)
        command = [nginx.path, "-e", str(folder / "error.log"), "-p", str(folder), "-c", str(path)]
        process = subprocess.Popen(command, env=nginx.environment)
        try:
            wait_until(lambda: _accepts(tls), 20, "nginx")
            yield Edge(url, f"http://localhost:{plain}", made.certificate, servers)
        finally:
            process.terminate()
            process.wait(20)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def edge(module_api: Api, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Edge]:
    with edge_of(module_api, tmp_path_factory.mktemp("edge")) as edge:
        yield edge


def waiting(edge: Edge) -> float:
    """How many requests the servers hold, both together."""
    texts = [requests.get(f"{server.url}/metrics", timeout=20).text for server in edge.servers]
    return sum(
        float(value) for text in texts for value in re.findall(r"^headrace_http_waiting (\S+)", text, re.M)
    )


def test_clients_are_sent_to_tls_and_told_to_stay(edge: Edge, module_api: Api) -> None:
    answer = requests.get(f"{edge.plain_url}/livez", allow_redirects=False, timeout=20)
    assert answer.status_code == 308
    assert answer.headers["Location"].startswith("https://")
    answer = edge.session(module_api).get(f"{edge.url}/livez", timeout=20)
    assert answer.status_code == 200
    assert answer.headers["Strict-Transport-Security"] == "max-age=31536000"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Server"] == "nginx"
    with pytest.raises(requests.exceptions.SSLError):
        requests.get(f"{edge.url}/livez", timeout=20)


def test_urls_in_answers_are_those_that_clients_reach(edge: Edge, module_api: Api) -> None:
    http = edge.session(module_api)
    answer = http.post(f"{edge.url}/v1/jobs", json=JOB, timeout=20)
    assert answer.status_code == 202
    assert answer.json()["urls"]["get"].startswith(edge.url)
    assert http.get(answer.json()["urls"]["get"], timeout=20).json()["status"] == "queued"


def test_a_request_may_wait_and_events_come_as_they_happen(edge: Edge, module_api: Api) -> None:
    http = edge.session(module_api)
    job = http.post(f"{edge.url}/v1/jobs", json=JOB, timeout=20).json()
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(http.get, job["urls"]["get"], headers={"Prefer": "wait=30"}, timeout=60)
        with edge.session(module_api).get(job["urls"]["events"], stream=True, timeout=60) as events:
            lines = events.iter_lines()
            # It is here although the stream goes on.
            assert any(b"queued" in line for line in lines)
            wait_until(lambda: waiting(edge) == 2, 20, "both are held")
            assert http.post(job["urls"]["cancel"], timeout=20).ok
            assert any(b"event: completed" in line for line in lines)
        assert held.result(40).json()["status"] == "canceled"


@pytest.mark.parametrize(("path", "size"), [("/v1/jobs", 6 << 20), ("/v1/files", 211 << 20)])
def test_a_body_that_is_too_large_is_refused_as_a_problem(
    edge: Edge, module_api: Api, path: str, size: int
) -> None:
    headers = {"Content-Length": str(size), "Content-Type": "application/json", "Expect": "100-continue"}
    with edge.session(module_api) as http:
        answer = http.post(f"{edge.url}{path}", data=b"", headers=headers, timeout=20)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == "body_too_large"


def test_a_file_of_more_than_the_api_takes_in_a_body_comes_through(edge: Edge, module_api: Api) -> None:
    content = b'{"custom_id":"a"}\n' * 12_000
    answer = edge.session(module_api).post(
        f"{edge.url}/v1/files", data={"purpose": "batch"}, files={"file": ("a.jsonl", content)}, timeout=60
    )
    assert answer.status_code == 200, answer.text
    got = edge.session(module_api).get(f"{edge.url}/v1/files/{answer.json()['id']}/content", timeout=60)
    assert got.content == content


def test_metrics_are_not_for_the_world(edge: Edge, module_api: Api) -> None:
    assert edge.session(module_api).get(f"{edge.url}/metrics", timeout=20).status_code == 404


def test_servers_restart_one_by_one_and_no_request_is_refused(
    postgres_server: PostgresServer, template_database: str, redis_url: str, tmp_path: Path
) -> None:
    """As an upgrade does it: each server is stopped, and one with another process takes its port."""
    with (
        postgres_server.database(template_database) as database_url,
        open_api(database_url, redis_url) as api,
        edge_of(api, tmp_path) as edge,
        ThreadPoolExecutor(4) as pool,
    ):
        over = threading.Event()
        clients = [pool.submit(_submit, edge, api, over) for _ in range(4)]
        replaced = []
        try:
            for server in edge.servers:
                wait_until(lambda: api.jobs_written() > 20 * (len(replaced) + 1), 30, "load")
                server.process.terminate()
                server.process.wait(30)
                replaced.append(_start_again(server, api, edge, tmp_path))
            before = api.jobs_written()
            wait_until(lambda: api.jobs_written() > before + 20, 30, "load on the new ones")
        finally:
            over.set()
            for process in replaced:
                process.terminate()
                process.wait(30)
        statuses = [status for client in clients for status in client.result(60)]
        assert set(statuses) == {202}
        assert len(statuses) == api.jobs_written()


def _submit(edge: Edge, api: Api, over: threading.Event) -> list[int]:
    statuses = []
    with edge.session(api) as http:
        while not over.is_set():
            statuses.append(http.post(f"{edge.url}/v1/jobs", json=JOB, timeout=30).status_code)
    return statuses


def _start_again(server: Server, api: Api, edge: Edge, folder: Path) -> "subprocess.Popen[bytes]":
    from tests.integration.api.server import COMMAND

    extra = {
        "HEADRACE_API_BIND": f"127.0.0.1:{server.port}",
        "HEADRACE_API_PROCESSES": "1",
        "HEADRACE_API_PUBLIC_URL": edge.url,
    }
    process = subprocess.Popen(COMMAND, env=environment(api.settings, **extra))
    wait_until(lambda: _accepts(server.port), 30, "the new server")
    return process


def test_the_api_speaks_tls_itself(module_api: Api, tmp_path: Path) -> None:
    made = certificate(tmp_path / "tls")
    extra = {
        "HEADRACE_API_TLS_CERTIFICATE": str(made.certificate),
        "HEADRACE_API_TLS_KEY": str(made.key),
        "HEADRACE_API_PROCESSES": "1",
    }
    with serve(module_api.settings, tmp_path, root=made.certificate, **extra) as server:
        http = trusting(made.certificate, module_api)
        job: dict[str, Any] = http.post(f"{server.url}/v1/jobs", json=JOB, timeout=20).json()
        assert job["urls"]["get"].startswith("https://")
        with ThreadPoolExecutor(1) as pool:
            held = pool.submit(http.get, job["urls"]["get"], headers={"Prefer": "wait=30"}, timeout=60)
            began = time.monotonic()
            assert http.post(job["urls"]["cancel"], timeout=20).ok
            assert held.result(40).json()["status"] == "canceled"
            assert time.monotonic() - began < 20
        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{server.url}/livez", timeout=20)
        with pytest.raises(requests.exceptions.ConnectionError):
            requests.get(server.url.replace("https:", "http:") + "/livez", timeout=20)
        for bind in (f"127.0.0.1:{server.port}", f"0.0.0.0:{server.port}", f":{server.port}"):
            told = environment(module_api.settings, **extra, HEADRACE_API_BIND=bind)
            assert probe.ask("/livez", told) == 200
        assert probed("/livez", told) == ""
        assert probed("/nowhere", told) == "/nowhere: 404"
        plain = {name: value for name, value in told.items() if "_TLS_" not in name}
        assert probed("/livez", plain) != ""
    assert "ConnectionRefusedError" in probed("/livez", told)


def probed(path: str, told: dict[str, str]) -> str:
    """What a health check says: nothing if all is well."""
    command = [sys.executable, "-m", "app.probe", path]
    done = subprocess.run(command, env=told, capture_output=True, text=True, timeout=60, check=False)
    assert bool(done.returncode) == bool(done.stderr), done
    return done.stderr.strip()
