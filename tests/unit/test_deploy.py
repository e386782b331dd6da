"""deploy/k8s against the schemas of Kubernetes and the code that it starts, without a cluster."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.domain import pools
from app.domain.model import Model
from app.domain.pools import Pool
from app.embedded import programs
from app.settings import SPOT_MICRO_BATCH_S, load
from workers.scaling.kubernetes import POOL_LABEL

ROOT = Path(__file__).resolve().parents[2]
K8S = ROOT / "deploy" / "k8s"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((K8S / "kustomization.yaml").read_text())
OBJECTS: list[dict[str, Any]] = [
    item for name in KUSTOMIZATION["resources"] for item in yaml.safe_load_all((K8S / name).read_text())
]
POOLS = pools.read(K8S / "pools.toml")
VERSIONS = ("1.32", "1.37")
"""The oldest and the newest Kubernetes that the manifests are checked against."""

# What KEDA 2 knows of its own objects: https://keda.sh/docs/latest/reference/scaledobject-spec/
SCALED_OBJECT = {
    "scaleTargetRef": {"apiVersion", "kind", "name", "envSourceContainerName"},
    "pollingInterval": int,
    "cooldownPeriod": int,
    "minReplicaCount": int,
    "maxReplicaCount": int,
    "advanced": {"restoreToOriginalReplicaCount", "horizontalPodAutoscalerConfig", "scalingModifiers"},
    "triggers": list,
}
TRIGGER = {"type", "name", "metricType", "useCachedMetrics", "metadata", "authenticationRef"}
POSTGRESQL = {"query", "targetQueryValue", "activationTargetQueryValue"}
CONNECTION = {"host", "port", "userName", "password", "dbName", "sslmode"}


def named(kind: str, name: str) -> dict[str, Any]:
    (found,) = [item for item in OBJECTS if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def of_kubernetes() -> list[dict[str, Any]]:
    return [item for item in OBJECTS if not item["apiVersion"].startswith("keda.sh/")]


def pod_of(pool: Pool) -> dict[str, Any]:
    spec: dict[str, Any] = named("Deployment", pool.where["deployment"])["spec"]["template"]["spec"]
    return spec


def container_of(pool: Pool) -> dict[str, Any]:
    (container,) = pod_of(pool)["containers"]
    return dict(container)


def scaled(pool: Pool) -> dict[str, Any]:
    (found,) = [
        item
        for item in OBJECTS
        if item["kind"] == "ScaledObject"
        and item["spec"]["scaleTargetRef"]["name"] == pool.where["deployment"]
    ]
    return dict(found["spec"])


each_pool = pytest.mark.parametrize("pool", POOLS, ids=lambda pool: pool.name)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "item", of_kubernetes(), ids=lambda item: f"{item['kind']}-{item['metadata']['name']}"
)
def test_kubernetes_takes_it(item: dict[str, Any], version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="it carries the schemas of Kubernetes")
    validate.validate(item, version, strict=True)


def test_the_schemas_see_a_wrong_name() -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="it carries the schemas of Kubernetes")
    item = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "scaler", "nmespace": "x"}}
    with pytest.raises(validate.ValidationError):
        validate.validate(item, VERSIONS[-1], strict=True)


def test_kustomize_takes_files_that_exist_and_leaves_out_none() -> None:
    (made,) = KUSTOMIZATION["configMapGenerator"]
    files = {*KUSTOMIZATION["resources"], *made["files"], "kustomization.yaml"}
    assert files == {path.name for path in K8S.iterdir()}
    used = {
        container["image"]
        for item in OBJECTS
        if item["kind"] == "Deployment"
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    assert used == {image["name"] for image in KUSTOMIZATION["images"]}


@each_pool
def test_keda_knows_what_its_objects_hold(pool: Pool) -> None:
    spec = scaled(pool)
    for name, value in spec.items():
        known = SCALED_OBJECT[name]
        assert set(value) <= known if isinstance(known, set) else isinstance(value, known), name
    hpa = spec["advanced"]["horizontalPodAutoscalerConfig"]
    assert set(hpa) == {"behavior"}
    (trigger,) = spec["triggers"]
    assert set(trigger) <= TRIGGER
    assert trigger["type"] == "postgresql"
    assert set(trigger["metadata"]) <= POSTGRESQL
    assert all(isinstance(value, str) for value in trigger["metadata"].values())
    credentials = named("TriggerAuthentication", trigger["authenticationRef"]["name"])
    given = credentials["spec"]["secretTargetRef"]
    assert {item["parameter"] for item in given} == CONNECTION
    assert all(set(item) == {"parameter", "name", "key"} for item in given)


@pytest.mark.parametrize("version", VERSIONS)
@each_pool
def test_kubernetes_takes_the_autoscaler_that_keda_makes(pool: Pool, version: str) -> None:
    validate = pytest.importorskip("kubernetes_validate", reason="it carries the schemas of Kubernetes")
    spec = scaled(pool)
    made = {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "made"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", **spec["scaleTargetRef"]},
            "minReplicas": max(1, spec["minReplicaCount"]),
            "maxReplicas": spec["maxReplicaCount"],
            **spec["advanced"]["horizontalPodAutoscalerConfig"],
        },
    }
    validate.validate(made, version, strict=True)


@each_pool
def test_a_pool_is_scaled_by_its_own_signal_within_its_own_bounds(pool: Pool) -> None:
    spec = scaled(pool)
    (trigger,) = spec["triggers"]
    assert trigger["metadata"]["query"] == f"SELECT headrace_desired('{pool.name}')"
    assert trigger["metadata"]["targetQueryValue"] == "1"
    assert trigger["metricType"] == "AverageValue", "as many pods as the answer, whatever there are now"
    assert spec["minReplicaCount"] == pool.min
    # Machines that drain under leases come on top of those that were decided on.
    assert spec["maxReplicaCount"] == 2 * pool.max
    # The scaler has looked back already, over the pool's cooldown_s.
    behavior = spec["advanced"]["horizontalPodAutoscalerConfig"]["behavior"]
    assert {rule["stabilizationWindowSeconds"] for rule in behavior.values()} == {0}
    assert "fallback" not in spec
    assert "replicas" not in named("Deployment", pool.where["deployment"])["spec"]


def test_bulk_scales_to_zero() -> None:
    assert [pool.name for pool in POOLS if pool.spot and pool.min == 0] == ["spot"]


@each_pool
def test_a_pods_worker_is_its_pools(pool: Pool) -> None:
    assert pool.where["namespace"] == KUSTOMIZATION["namespace"]
    deployment = named("Deployment", pool.where["deployment"])["spec"]
    labels = deployment["template"]["metadata"]["labels"]
    assert labels[POOL_LABEL] == pool.name, "the scaler finds its pods by it"
    assert deployment["selector"]["matchLabels"].items() <= labels.items()
    container = container_of(pool)
    environment = {item["name"]: item for item in container["env"]}
    machine = environment.pop("HEADRACE_WORKER_MACHINE")["valueFrom"]
    assert machine == {"fieldRef": {"fieldPath": "metadata.name"}}, "the executor calls a machine by its pod"
    secrets = {
        "HEADRACE_DATABASE_URL": "postgresql://h/d",
        "HEADRACE_REDIS_URL": "redis://h/0",
        "HEADRACE_SECRET_KEY": "s" * 64,
    }
    settings = load({**secrets, **{name: item["value"] for name, item in environment.items()}}).worker
    assert (settings.pool, settings.purchase) == (pool.name, pool.purchase)
    words = container["command"]
    assert words[words.index("-Q") + 1] == ",".join(pool.queues)
    assert words[words.index("-c") + 1] == str(pool.slots)
    ours = programs.worker(programs.Worker("any", pool.queues)).command
    flags = {word for word in ours if word.startswith("-") and word != "-m"}
    assert flags - {"--loglevel"} <= set(words)


@each_pool
def test_a_pod_that_is_stopped_drains_first(pool: Pool) -> None:
    pod, container = pod_of(pool), container_of(pool)
    environment = {item["name"]: item.get("value") for item in container["env"]}
    grace_s, drain_s = (
        pod["terminationGracePeriodSeconds"],
        float(environment["HEADRACE_WORKER_DRAIN_S"] or 0),
    )
    assert (SPOT_MICRO_BATCH_S if pool.spot else Model.execution_timeout_s) < drain_s < grace_s
    # A node that is taken away leaves its pods no more than that, and the worker has to know.
    assert grace_s <= 30 or not pool.spot
    # The worker itself must get the SIGTERM: no shell before it, and no hook that delays it.
    assert container["command"][0] == "celery"
    assert "lifecycle" not in container


@each_pool
def test_spot_pods_run_on_spot_nodes_and_no_other_pods_do(pool: Pool) -> None:
    pod = pod_of(pool)
    assert ("affinity" in pod) == ("tolerations" in pod) == pool.spot


@pytest.mark.parametrize("name", ["scaler", *(pool.where["deployment"] for pool in POOLS)])
def test_pods_have_no_rights_they_do_not_need(name: str) -> None:
    pod = named("Deployment", name)["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    # Variables of Services would be taken for settings, and refused.
    assert pod["enableServiceLinks"] is False
    for container in pod["containers"]:
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
    if name != "scaler":
        assert pod["automountServiceAccountToken"] is False


def test_the_scaler_reads_the_pools_and_may_do_what_its_executor_does() -> None:
    pod = named("Deployment", "scaler")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert importlib.util.find_spec(container["command"][container["command"].index("-m") + 1])
    (made,) = KUSTOMIZATION["configMapGenerator"]
    assert pod["volumes"][0]["configMap"]["name"] == made["name"]
    environment = {item["name"]: item["value"] for item in container["env"]}
    folder = container["volumeMounts"][0]["mountPath"]
    assert environment["HEADRACE_POOLS_FILE"] == f"{folder}/{made['files'][0]}"
    (rule,) = named("Role", "scaler")["rules"]
    source = (ROOT / "workers" / "scaling" / "kubernetes.py").read_text()
    verbs = {"GET": "list", "PATCH": "patch", "DELETE": "delete"}
    used = {verbs[method] for method in re.findall(r'_call\("([A-Z]+)"', source)}
    assert set(rule["verbs"]) == used
    assert named("RoleBinding", "scaler")["roleRef"]["name"] == "scaler"
    assert pod["serviceAccountName"] == named("RoleBinding", "scaler")["subjects"][0]["name"]
