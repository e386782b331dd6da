"""What every metric promises: a name with its unit, bounded labels, and an answer to whoever scrapes."""

import re
import socket
from pathlib import Path

import pytest
import requests
from prometheus_client import REGISTRY
from prometheus_client.metrics import MetricWrapperBase

from app.observability import exporter, metrics
from tests.support.waiting import wait_until

ROOT = Path(__file__).resolve().parents[2]
METRICS = {name: value for name, value in vars(metrics).items() if isinstance(value, MetricWrapperBase)}
BOUNDED = {"code", "ended", "cause", "kind", "lane", "method", "model", "outcome", "place", "pool", "purpose"}
BOUNDED |= {"policy", "route", "service", "state", "status", "tenant"}


def test_every_metric_is_in_the_documentation() -> None:
    text = (ROOT / "docs" / "metrics.md").read_text()
    for metric in METRICS.values():
        assert re.search(rf"^\| `{metric._name}(_total)?` \|", text, re.MULTILINE), metric._name


def test_every_metric_is_measured_somewhere() -> None:
    sources = [*(ROOT / "app").rglob("*.py"), *(ROOT / "workers").rglob("*.py")]
    code = "\n".join(path.read_text() for path in sources)
    assert not [name for name in METRICS if len(re.findall(rf"\b{name}\b", code)) < 2]


def test_names_are_in_base_units_and_labels_are_bounded() -> None:
    for metric in METRICS.values():
        assert re.fullmatch(r"headrace_[a-z_]+", metric._name)
        assert not re.search(r"_(ms|milliseconds|minutes|hours|kb|mb|percent)\b", metric._name)
        assert set(metric._labelnames) <= BOUNDED, metric._name


def test_tenants_that_are_named_are_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "_tenants", set())
    for tenant in range(900_000, 900_000 + metrics.MOST_TENANTS + 10):
        metrics.accepted_of(tenant)
    (family,) = metrics.ACCEPT_TENANT_JOBS.collect()
    named = {sample.labels["tenant"] for sample in family.samples}
    assert len([name for name in named if name.startswith("9000")]) == metrics.MOST_TENANTS
    assert (REGISTRY.get_sample_value("headrace_accept_tenant_jobs_total", {"tenant": "other"}) or 0) >= 10


def test_a_scrape_is_answered_even_if_the_port_was_taken_at_first() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        exporter.export(address)
    text = ""

    def answers() -> bool:
        nonlocal text
        try:
            text = requests.get(f"http://{address}/metrics", timeout=5).text
        except requests.ConnectionError:
            return False
        return True

    wait_until(answers, 20, "the exporter")
    assert "headrace_queue_jobs" in text
