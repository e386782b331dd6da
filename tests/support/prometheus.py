"""A live Prometheus with the rules and jobs of deploy/prometheus, on loopback. Debian's package has it."""

import contextlib
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import requests
import yaml

from app.embedded.ports import Ports
from tests.support.waiting import wait_until

FOLDER = Path(__file__).resolve().parents[2] / "deploy" / "prometheus"
BINARY = shutil.which("prometheus")


class Prometheus:
    """Its HTTP API."""

    def __init__(self, url: str) -> None:
        self._url = url

    def _get(self, path: str, **parameters: str) -> Any:
        answer = requests.get(f"{self._url}/api/v1/{path}", params=parameters, timeout=10)
        body = answer.json()
        assert body["status"] == "success", body
        return body["data"]

    def targets(self) -> list[dict[str, Any]]:
        """What it scrapes, with `health` and `lastError`."""
        return list(self._get("targets")["activeTargets"])

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        """Labels and value of each series there is now."""
        data = self._get("query", query=expression)
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def rules(self) -> list[dict[str, Any]]:
        """Every rule, with `health` and `lastError`."""
        return [rule for group in self._get("rules")["groups"] for rule in group["rules"]]


@contextlib.contextmanager
def prometheus(folder: Path, targets: Mapping[str, Sequence[str]]) -> Iterator[Prometheus]:
    """Scrapes these addresses once a second, each job of our configuration its own."""
    assert BINARY is not None
    told = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    told["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    told["rule_files"] = [str(FOLDER / "alerts.yml")]
    for job in told["scrape_configs"]:
        del job["dns_sd_configs"]
        job["static_configs"] = [{"targets": list(targets[job["job_name"]])}]
    config, port = folder / "prometheus.yml", Ports().take()
    config.write_text(yaml.safe_dump(told))
    command = [BINARY, f"--config.file={config}", f"--storage.tsdb.path={folder}/data"]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: requests.get(f"{url}/-/ready", timeout=5).ok, 30, "Prometheus")
            yield Prometheus(url)
        finally:
            process.terminate()
            process.wait(20)
