"""Alerts and dashboards ask for metrics that exist, fire when they should, and say what to do."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import orjson
import pytest
import yaml
from prometheus_client import Counter, Histogram
from prometheus_client.metrics import MetricWrapperBase

from app.observability import metrics

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
PROMTOOL = shutil.which("promtool")

_SELECTOR = re.compile(r"\b(headrace_\w+)(?:\{([^}]*)\})?")


def series() -> dict[str, set[str]]:
    """Every name that a scrape may show, with its labels."""
    known: dict[str, set[str]] = {}
    for metric in vars(metrics).values():
        if isinstance(metric, MetricWrapperBase):
            endings = [""]
            if isinstance(metric, Counter):
                endings = ["_total"]
            elif isinstance(metric, Histogram):
                endings = ["_bucket", "_sum", "_count"]
            known |= {metric._name + ending: set(metric._labelnames) for ending in endings}
    return known


def queries() -> dict[str, str]:
    """Every query of an alert or a panel, by where it stands."""
    found = {rule["alert"]: rule["expr"] for rule in RULES}
    for path in sorted((ROOT / "deploy" / "grafana" / "dashboards").glob("*.json")):
        for panel in orjson.loads(path.read_bytes())["panels"]:
            for target in panel["targets"]:
                found[f"{path.stem}: {panel['title']} {target['refId']}"] = target["expr"]
    return found


@pytest.mark.parametrize("where", queries())
def test_queries_ask_for_metrics_and_labels_that_exist(where: str) -> None:
    known, query = series(), queries()[where]
    asked = [match for match in _SELECTOR.finditer(query) if "job=" not in match[0]]
    assert asked or "up{" in query
    labels: set[str] = set()
    for name, selected in (match.groups() for match in asked):
        assert name in known, name
        labels |= known[name]
        assert set(re.findall(r"(\w+)\s*!?=", selected or "")) <= known[name], name
    for by in re.findall(r"by \(([^)]*)\)", query):
        assert {label.strip() for label in by.split(",")} <= labels | {"le"}


def test_every_alert_says_what_happened_how_bad_it_is_and_what_to_do() -> None:
    text = (ROOT / "docs" / "runbooks.md").read_text()
    sections = re.findall(r"^## (\w+)$", text, re.MULTILINE)
    assert sorted(sections) == sorted(rule["alert"] for rule in RULES)
    for rule in RULES:
        assert rule["labels"]["severity"] in {"critical", "warning"}
        assert rule["annotations"]["summary"].endswith(".")
        assert rule["annotations"]["runbook"] == f"docs/runbooks.md#{rule['alert'].lower()}"


def test_every_alert_has_a_case_in_which_it_fires() -> None:
    cases = yaml.safe_load((FOLDER / "alerts_test.yml").read_text())["tests"]
    fires = {test["alertname"] for case in cases for test in case["alert_rule_test"] if test["exp_alerts"]}
    assert fires == {rule["alert"] for rule in RULES}


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is in Debian's package prometheus")
@pytest.mark.parametrize(
    "arguments", [("check", "config", "prometheus.yml"), ("test", "rules", "alerts_test.yml")]
)
def test_prometheus_agrees(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *arguments], cwd=FOLDER, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_dashboards_are_what_their_program_writes() -> None:
    path = ROOT / "deploy" / "grafana" / "dashboards.py"
    spec = importlib.util.spec_from_file_location("dashboards", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: dict[Path, str] = module.files()
    assert set(made) == set(module.FOLDER.glob("*.json"))
    for file, text in made.items():
        assert file.read_text() == text, "run: python deploy/grafana/dashboards.py"
