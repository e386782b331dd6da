"""deploy/k8s against the schemas of Kubernetes and the code that it starts, without a cluster."""

import importlib.util
import os
import re
import shutil
import subprocess
from ipaddress import ip_address, ip_network
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
FOLDERS = sorted(path.parent for path in K8S.rglob("kustomization.yaml"))
KUSTOMIZATIONS: dict[str, dict[str, Any]] = {
    folder.name: yaml.safe_load((folder / "kustomization.yaml").read_text()) for folder in FOLDERS
}
KUSTOMIZATION = KUSTOMIZATIONS["pools"]


def objects(folder: str) -> list[dict[str, Any]]:
    """What a folder's own files hold, without those it builds on."""
    names = [name for name in KUSTOMIZATIONS[folder].get("resources", []) if not name.startswith("..")]
    return [item for name in names for item in yaml.safe_load_all((K8S / folder / name).read_text())]


OBJECTS = [item for folder in KUSTOMIZATIONS for item in objects(folder)]
WORKLOADS = [item for item in OBJECTS if item["kind"] in ("Deployment", "Job")]
POOLS = pools.read(K8S / "pools" / "pools.toml")
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


def container_in(item: dict[str, Any]) -> dict[str, Any]:
    (container,) = item["spec"]["template"]["spec"]["containers"]
    return dict(container)


def whole(overlay: str) -> list[dict[str, Any]]:
    """What an overlay brings, with all that it builds on."""
    below = [Path(name).name for name in KUSTOMIZATIONS[overlay]["resources"] if name.startswith("..")]
    return [item for name in below for item in whole(name)] + objects(overlay)


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


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_kustomize_takes_files_that_exist_and_leaves_out_none(folder: Path) -> None:
    made = KUSTOMIZATIONS[folder.name]
    generated = [name for each in made.get("configMapGenerator", []) for name in each.get("files", [])]
    resources = made.get("resources", [])
    files = {name for name in resources if not name.startswith("..")} | {
        *generated,
        *(patch["path"] for patch in made.get("patches", [])),
        "kustomization.yaml",
    }
    assert files == {path.name for path in folder.iterdir()}
    for name in resources:
        if name.startswith(".."):
            assert (folder / name / "kustomization.yaml").is_file()
    used = {
        container["image"]
        for item in objects(folder.name)
        if item["kind"] in ("Deployment", "Job")
        for container in item["spec"]["template"]["spec"]["containers"]
    }
    assert used == {image["name"] for image in made.get("images", [])}


def built(folder: Path, overlay: str, *components: str) -> list[dict[str, Any]]:
    """What kustomize makes of an overlay with these components, as somebody's own kustomization has them."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl builds it")
    own = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [os.path.relpath(K8S / overlay, folder.resolve())],
        "components": [os.path.relpath(K8S / name, folder.resolve()) for name in components],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(own))
    done = subprocess.run(["kubectl", "kustomize", folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "pools", "migrate"])
def test_kustomize_builds_what_is_read_here(overlay: str, tmp_path: Path) -> None:
    def names(items: list[dict[str, Any]]) -> list[tuple[str, str]]:
        return sorted(
            (item["kind"], item["metadata"]["name"]) for item in items if item["kind"] != "ConfigMap"
        )

    made = built(tmp_path, overlay)
    assert names(made) == names(whole(overlay))
    assert {item["metadata"]["namespace"] for item in made} == {"headrace"}


def test_with_the_component_for_it_the_api_speaks_tls_and_is_probed_so(tmp_path: Path) -> None:
    made = built(tmp_path, "cpu", "media", "tls")
    found = {item["kind"]: item for item in made if item["metadata"]["name"] == "api"}
    pod = found["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    plain = container_in(named("Deployment", "api"))
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        tls = {**plain[kind], "httpGet": {**plain[kind]["httpGet"], "scheme": "HTTPS"}}
        assert container[kind] == tls, "and is asked as often and as patiently as without"
    api = load({**SECRETS, **SHARED, **{each["name"]: each["value"] for each in container["env"]}}).api
    (mount,) = [mount for mount in container["volumeMounts"] if mount["name"] == "tls"]
    (volume,) = [volume for volume in pod["volumes"] if volume["name"] == "tls"]
    assert (str(api.tls_certificate), str(api.tls_key)) == tuple(
        f"{mount['mountPath']}/{name}" for name in ("tls.crt", "tls.key")
    )
    assert volume["secret"]["defaultMode"] == 0o440, (
        "for the pod's group, and so for its user, who is not root"
    )
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]
    (port,) = found["Service"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, container["ports"][0]["name"])
    validate = pytest.importorskip("kubernetes_validate", reason="it carries the schemas of Kubernetes")
    for version in VERSIONS:
        for item in found.values():
            validate.validate(item, version, strict=True)


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


each_workload = pytest.mark.parametrize("item", WORKLOADS, ids=lambda item: item["metadata"]["name"])
SECRETS = {
    "HEADRACE_DATABASE_URL": "postgresql://h/d",
    "HEADRACE_REDIS_URL": "redis://h/0",
    "HEADRACE_SECRET_KEY": "s" * 64,
}
SHARED = dict(
    literal.split("=", 1) for literal in KUSTOMIZATIONS["base"]["configMapGenerator"][0]["literals"]
)


@each_workload
def test_pods_have_no_rights_they_do_not_need(item: dict[str, Any]) -> None:
    pod = item["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    # Variables of Services would be taken for settings, and refused.
    assert pod["enableServiceLinks"] is False
    container = container_in(item)
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {volume["name"] for volume in pod["volumes"] if "emptyDir" in volume}
    mounted = {mount["mountPath"] for mount in container["volumeMounts"] if mount["name"] in writable}
    assert mounted == {SHARED["HOME"], SHARED["PROMETHEUS_MULTIPROC_DIR"]}
    assert "memory" in container["resources"]["limits"]
    assert pod.get("automountServiceAccountToken", True) is (item["metadata"]["name"] == "scaler")


@each_workload
def test_settings_of_pods_are_settings_and_their_secrets_are_references(item: dict[str, Any]) -> None:
    container = container_in(item)
    references = [{"configMapRef": {"name": "headrace-settings"}}, {"secretRef": {"name": "headrace"}}]
    # The later one counts: the API never learns the owner's way to the database.
    own = [{"secretRef": {"name": "headrace-api"}}] if item["metadata"]["name"] == "api" else []
    assert container["envFrom"] == references + own
    given = {each["name"]: each["value"] for each in container.get("env", []) if "value" in each}
    assert not set(given) & {*SECRETS, "FLOWER_BASIC_AUTH"}
    load({**SECRETS, **SHARED, **given})


def test_every_process_of_the_embedded_stack_runs_and_as_it_does_there() -> None:
    state = Path("/state")
    ours = {
        "api": programs.api(1),
        "sender": programs.sender("http://127.0.0.1"),
        "clerk": programs.clerk(),
        "scheduler": programs.scheduler(),
        "flower": programs.flower(1, "a:b"),
        "scaler": programs.scaler(state),
    }
    for name, program in ours.items():
        command = container_in(named("Deployment", name))["command"]
        modules = [word for word in program.command if re.match(r"(python:)?(app|workers)\.", word)]
        assert set(modules) <= set(command), name
        flags = {
            word for word in program.command[3:] if re.match(r"-{1,2}[a-zA-Z]", word) and "=" not in word
        }
        assert flags - {"--loglevel", "--bind", "-m"} <= set(command), name
    for overlay in ("cpu", "gpu", "pools"):
        there = {item["metadata"]["name"] for item in whole(overlay) if item["kind"] == "Deployment"}
        assert set(ours) - {"scaler"} <= there
    served = {
        queue
        for item in whole("cpu")
        if item["kind"] == "Deployment" and item["metadata"]["name"].startswith("worker-")
        for queue in container_in(item)["command"][container_in(item)["command"].index("-Q") + 1].split(",")
    }
    assert served == {"cpu.interactive", "cpu.batch"}


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "pools", "migrate"])
def test_an_overlay_names_nothing_twice_and_selects_its_own_pods_only(overlay: str) -> None:
    all_of_it = whole(overlay)
    names = [(item["kind"], item["metadata"]["name"]) for item in all_of_it]
    assert len(names) == len(set(names))
    deployments = [item for item in all_of_it if item["kind"] == "Deployment"]
    for item in deployments:
        selected = [
            other["metadata"]["name"]
            for other in deployments
            if item["spec"]["selector"]["matchLabels"].items()
            <= other["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert selected == [item["metadata"]["name"]]


@pytest.mark.parametrize("name", ["worker-interactive", "worker-batch", "worker-gpu"])
def test_a_fixed_worker_drains_before_it_is_killed(name: str) -> None:
    pod = named("Deployment", name)["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    drain_s = {each["name"]: each.get("value") for each in container["env"]}["HEADRACE_WORKER_DRAIN_S"]
    assert Model.execution_timeout_s < float(drain_s) < pod["terminationGracePeriodSeconds"]
    assert container["command"][0] == "celery"
    assert "lifecycle" not in container


def test_the_api_is_asked_where_it_answers_and_ends_after_its_clients_have_turned_away() -> None:
    source = (ROOT / "app" / "gunicorn_conf.py").read_text()
    (graceful_s,) = re.findall(r"^graceful_timeout = (\d+)$", source, re.MULTILINE)
    pod = named("Deployment", "api")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    paths = {kind: container[kind]["httpGet"]["path"] for kind in container if kind.endswith("Probe")}
    assert paths == {"startupProbe": "/livez", "livenessProbe": "/livez", "readinessProbe": "/readyz"}
    hook_s = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    readiness = container["readinessProbe"]
    assert hook_s >= readiness["periodSeconds"]
    assert hook_s + int(graceful_s) < pod["terminationGracePeriodSeconds"]
    service = named("Service", "api")["spec"]
    assert service["selector"] == named("Deployment", "api")["spec"]["selector"]["matchLabels"]
    assert service["ports"][0]["targetPort"] == container["ports"][0]["name"]


@pytest.mark.parametrize("name", ["api", "sender", "clerk", "scheduler"])
def test_an_eviction_never_takes_all_of_a_part(name: str) -> None:
    budget = named("PodDisruptionBudget", name)["spec"]
    assert budget["selector"]["matchLabels"] == named("Deployment", name)["spec"]["selector"]["matchLabels"]
    assert budget["maxUnavailable"] == 1
    scaled_by = [item for item in OBJECTS if item["kind"] == "HorizontalPodAutoscaler"]
    minimum = {each["spec"]["scaleTargetRef"]["name"]: each["spec"]["minReplicas"] for each in scaled_by}
    assert named("Deployment", name)["spec"].get("replicas", minimum.get(name)) >= 2


def reaches_the_internet(policy: dict[str, Any]) -> bool:
    blocks = [
        to["ipBlock"]["cidr"]
        for rule in policy["spec"].get("egress", [])
        for to in rule.get("to", [{"ipBlock": {"cidr": "0.0.0.0/0"}}])
        if "ipBlock" in to
    ]
    return any(not ip_network(block).is_private for block in blocks)


def policies(folder: str) -> list[dict[str, Any]]:
    return [item for item in whole(folder) if item["kind"] == "NetworkPolicy"]


@pytest.mark.parametrize("overlay", ["cpu", "gpu", "pools"])
def test_nothing_passes_but_what_is_named_and_only_the_sender_reaches_the_internet(overlay: str) -> None:
    named_so = {policy["metadata"]["name"]: policy["spec"] for policy in policies(overlay)}
    assert named_so["default-deny"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    out = [policy for policy in policies(overlay) if reaches_the_internet(policy)]
    (selector,) = [policy["spec"]["podSelector"] for policy in out]
    assert selector == {"matchLabels": named("Deployment", "sender")["spec"]["selector"]["matchLabels"]}
    assert SHARED["HEADRACE_MEDIA_URLS"] == "false", (
        "else workers would be told to fetch what they can't reach"
    )


def test_workers_get_out_only_with_the_component_that_lets_inputs_name_urls() -> None:
    (policy,) = policies("media")
    assert reaches_the_internet(policy)
    assert policy["spec"]["podSelector"]["matchLabels"]["app.kubernetes.io/component"] == "worker"
    (made,) = KUSTOMIZATIONS["media"]["configMapGenerator"]
    assert made == {
        "name": "headrace-settings",
        "behavior": "merge",
        "literals": ["HEADRACE_MEDIA_URLS=true"],
    }


def test_what_reaches_the_internet_reaches_nothing_inside() -> None:
    for policy in [*policies("base"), *policies("media")]:
        if reaches_the_internet(policy):
            for to in policy["spec"]["egress"][0]["to"]:
                block = to["ipBlock"]
                outside = ip_network(block["cidr"])
                excepted = [ip_network(each) for each in block["except"]]
                for inside in (
                    "10.1.2.3",
                    "172.16.0.1",
                    "192.168.1.1",
                    "169.254.169.254",
                    "127.0.0.1",
                    "100.64.0.1",
                ):
                    if outside.version == 4:
                        assert any(ip_address(inside) in each for each in excepted), inside
                for inside in ("::1", "fd00:ec2::254", "fe80::1"):
                    if outside.version == 6:
                        assert any(ip_address(inside) in each for each in excepted), inside


def test_the_scaler_reads_the_pools_and_may_do_what_its_executor_does() -> None:
    pod = named("Deployment", "scaler")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert importlib.util.find_spec(container["command"][container["command"].index("-m") + 1])
    (made,) = KUSTOMIZATION["configMapGenerator"]
    volume = {each["name"]: each for each in pod["volumes"]}["pools"]
    assert volume["configMap"]["name"] == made["name"]
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
