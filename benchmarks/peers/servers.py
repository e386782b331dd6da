"""The peers: how each is installed, started, and asked."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.peers.environments import ROOT, Environment

START_S = 120


@dataclass(frozen=True)
class Peer:
    """A system to compare with. `commands` start it; `{port}` and `{python}` are filled in."""

    name: str
    requirement: str
    commands: Sequence[Sequence[str]]
    path: str = "/predict"
    ready: str | None = None
    """A path that answers 200 once it works; else the peer is asked to embed a text."""
    polled: bool = False
    """Whether it answers with a task to be polled."""
    lists: bool = False
    """Whether it takes a list of texts only; it is given one text at a time."""
    tuned: bool = False
    environment: dict[str, str] = field(default_factory=dict)

    def body(self, text: str) -> bytes:
        """The request for one text."""
        return json.dumps({"text": [text] if self.lists else text}).encode()

    @contextmanager
    def running(self, redis_url: str) -> Iterator[str]:
        """Start it, two workers with one thread each; gives its base URL once it answers."""
        environment = Environment(self.name.split()[0], self.requirement)
        if self.requirement:
            environment.install()
        python = str(environment.python) if self.requirement else sys.executable
        port = _free_port()
        env = {
            **os.environ,
            "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "BENCHMARK_PORT": str(port),
            "BENCHMARK_REDIS_URL": redis_url,
            "BENCHMARK_TUNED": "1" if self.tuned else "0",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            **self.environment,
        }
        started = [
            subprocess.Popen(
                [part.format(port=port, python=python) for part in command],
                env=env,
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            for command in self.commands
        ]
        try:
            url = f"http://127.0.0.1:{port}"
            self._wait(url, started)
            yield url
        finally:
            for process in started:
                _stop(process)

    def _wait(self, url: str, started: Sequence["subprocess.Popen[bytes]"]) -> None:
        until = time.monotonic() + START_S
        while not self._answers(url):
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not answer within {START_S} s")
            if any(process.poll() is not None for process in started):
                raise RuntimeError(f"{self.name} ended as it started")
            time.sleep(0.25)

    def _answers(self, url: str) -> bool:
        connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
        try:
            if self.ready:
                connection.request("GET", self.ready)
            else:
                headers = {"Content-Type": "application/json"}
                connection.request("POST", self.path, self.body("ready?"), headers)
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


FLASK_CELERY = Peer(
    "flask-celery",
    "",
    (
        (
            "{python}", "-m", "gunicorn", "-w", "2", "-k", "gthread", "--threads", "16",
            "--bind", "127.0.0.1:{port}", "benchmarks.peers.flask_celery:application",
        ),
        (
            "{python}", "-m", "celery", "-A", "benchmarks.peers.flask_celery:celery", "worker",
            "-c", "2", "-Q", "peer", "--loglevel", "ERROR",
        ),
    ),
    path="/embed",
    ready="/ready",
    polled=True,
)  # fmt: skip
_LITSERVE = (("{python}", "-m", "benchmarks.peers.lit_serve"),)
PEERS = (
    FLASK_CELERY,
    Peer("litserve", "litserve==0.2.19", _LITSERVE),
    Peer("litserve tuned", "litserve==0.2.19", _LITSERVE, tuned=True),
    Peer(
        "bentoml",
        "bentoml==1.4.40",
        (("{python}", "-m", "bentoml", "serve", "benchmarks.peers.bento:Embed", "--port", "{port}"),),
        path="/embed",
        lists=True,
        environment={"BENTOML_DO_NOT_TRACK": "true"},
    ),
    Peer("mosec", "mosec==0.9.8", (("{python}", "-m", "benchmarks.peers.mosec_server"),), path="/inference"),
    Peer("ray", "ray[serve]==2.60.0", (("{python}", "-m", "benchmarks.peers.ray_serve"),), path="/embed",
         environment={"RAY_USAGE_STATS_ENABLED": "0"}),
)  # fmt: skip


def _stop(process: "subprocess.Popen[bytes]") -> None:
    """Its whole session: some peers leave their children to themselves."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(15)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
