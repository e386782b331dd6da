"""The manifests of deploy/, offline: valid, and about the pools, names and functions that the code knows."""

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain import pools
from app.domain.lanes import parse_queue
from app.domain.pools import WHERE, Pool
from app.settings import load
from tests.support.guides import DOCS, ROOT, blocks
from workers.scaling.kubernetes import POOL_LABEL

K8S, AWS = sorted((ROOT / "deploy/k8s").glob("*.yaml")), sorted((ROOT / "deploy/aws").glob("*.yaml"))
SERVERS = {
    "HEADRACE_DATABASE_URL": "postgresql://x@db/x",
    "HEADRACE_REDIS_URL": "redis://x",
    "HEADRACE_SECRET_KEY": "x" * 32,
}


def documents() -> list[dict[str, Any]]:
    return [document for path in K8S for document in yaml.safe_load_all(path.read_text())]


def of(kind: str) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in documents() if one["kind"] == kind}


def declared() -> dict[str, Pool]:
    text = of("ConfigMap")["headrace-pools"]["data"]["pools.toml"]
    return {pool.name: pool for pool in pools.parse(text)}


@pytest.mark.parametrize("path", K8S, ids=lambda path: path.name)
def test_kubernetes_knows_every_field(path: Path) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    for document in yaml.safe_load_all(path.read_text()):
        if not document["apiVersion"].startswith("keda.sh/"):
            validate.validate(document, validate.latest_version(), strict=True)


@pytest.mark.parametrize("path", AWS, ids=lambda path: path.name)
def test_cloudformation_finds_nothing_wrong(path: Path) -> None:
    pytest.importorskip("cfnlint")
    from cfnlint.api import ManualArgs, lint_file

    found = lint_file(path, config=ManualArgs(regions=["eu-central-1"]))
    assert not [str(match) for match in found]


def test_keda_asks_for_each_pool_and_stops_at_its_most() -> None:
    assert {pool.where["deployment"] for pool in declared().values()} == set(of("ScaledObject"))
    for pool in declared().values():
        scaled = of("ScaledObject")[pool.where["deployment"]]
        assert scaled["metadata"]["namespace"] == pool.where["namespace"]
        spec = scaled["spec"]
        assert spec["scaleTargetRef"]["name"] in of("Deployment")
        assert (spec["minReplicaCount"], spec["maxReplicaCount"]) == (pool.min, pool.max)
        (trigger,) = spec["triggers"]
        assert trigger["type"] == "postgresql"
        assert trigger["metadata"] == {
            "query": f"SELECT headrace_desired('{pool.name}')",
            "targetQueryValue": "1",
        }
        assert trigger["authenticationRef"]["name"] in of("TriggerAuthentication")
        # The scaler has waited already, and KEDA has to hold when nobody decides.
        assert (
            spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]["scaleDown"][
                "stabilizationWindowSeconds"
            ]
            == 0
        )
        assert spec["fallback"]["behavior"] == "currentReplicas"


def test_the_function_that_keda_asks_is_in_the_schema() -> None:
    migrations = "".join(path.read_text() for path in (ROOT / "migrations/versions").glob("*.py"))
    assert "CREATE FUNCTION headrace_desired(pool text)" in migrations


@pytest.mark.parametrize("pool", declared().values(), ids=lambda pool: pool.name)
def test_a_pods_worker_is_what_its_pool_says_and_has_time_to_drain(pool: Pool) -> None:
    deployment = of("Deployment")[pool.where["deployment"]]
    assert "replicas" not in deployment["spec"]
    pod = deployment["spec"]["template"]
    assert pod["metadata"]["labels"] == {POOL_LABEL: pool.name}
    (container,) = pod["spec"]["containers"]
    command = container["command"][-1]
    assert f" -Q {','.join(pool.queues)} -c {pool.slots} " in command
    assert f" -n {pool.name}@%h " in command
    environ = {one["name"]: one.get("value", "from the pod") for one in container["env"]}
    settings = load({**SERVERS, **environ}).worker
    assert (settings.pool, settings.purchase, settings.machine) == (pool.name, pool.purchase, "from the pod")
    assert float(environ["HEADRACE_WORKER_DRAIN_S"]) < pod["spec"]["terminationGracePeriodSeconds"]
    assert container["lifecycle"]["preStop"]["exec"]["command"][-1].startswith(
        "exec headracectl workers drain"
    )


def test_the_scaler_may_do_what_its_executor_does_and_no_more() -> None:
    (rule,) = of("Role")["headrace-scaler"]["rules"]
    assert (rule["resources"], set(rule["verbs"])) == (["pods"], {"list", "patch"})
    (container,) = of("Deployment")["headrace-scaler"]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["python", "-m", "workers.scaling"]


@pytest.mark.parametrize("path", AWS, ids=lambda path: path.name)
def test_aws_lets_the_scaler_call_what_its_executor_calls(path: Path) -> None:
    source = (ROOT / "workers/scaling/aws.py").read_text()
    service, name = ("autoscaling", "AutoScalingGroup") if "asg" in path.name else ("ecs", "EcsService")
    body = source.partition(f"class {name}")[2].partition("\nclass ")[0].partition("\ndef ")[0]
    called = set(re.findall(r"self\._client\.([a-z_]+)\(", body)) - {"get_paginator"}
    called |= set(re.findall(r'get_paginator\("([a-z_]+)"\)', body))
    actions = {"".join(word.title() for word in call.split("_")) for call in called}
    allowed = set(re.findall(rf"{service}:([A-Z][a-z]\w+)", path.read_text()))
    assert actions == allowed
    assert "cloudwatch:PutMetricData" in path.read_text()
    assert parse_queue("cpu.batch")


def test_the_pools_of_the_guide_are_pools_and_its_table_names_every_setting() -> None:
    guide = DOCS / "guides" / "scaling.md"
    (text,) = [block.text for block in blocks(guide) if block.language == "toml"]
    assert [pool.name for pool in pools.parse(text)] == ["batch-spot", "batch", "interactive"]
    table = guide.read_text()
    for name in Pool.model_fields:
        assert name == "name" or f"`{name}`" in table, name
    for executor in WHERE:
        assert f"`{executor}`" in table


def test_a_pool_elsewhere_loads_no_sdk_of_a_cloud() -> None:
    import subprocess

    code = "import sys, workers.scaling.__main__, workers.scaling.local; print('boto3' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "False"
