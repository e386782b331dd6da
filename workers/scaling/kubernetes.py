"""Machines that are pods of a Deployment which KEDA scales: see deploy/k8s.

KEDA asks the database how many there should be (`headrace_desired`), so nothing is grown or stopped from
here. What is done here is to say which pods go first, by the cost of their deletion: those that hold no lease
and were told to claim nothing. Where work came back before they were taken away, they are replaced.
"""

import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import requests

from app.db.pools import PoolState
from app.domain.pools import Pool
from app.errors import SettingsError
from workers.scaling.executor import ExecutorError, Machine, MachineState

COST = "controller.kubernetes.io/pod-deletion-cost"
GOES, STAYS = "-100", "100"
POOL_LABEL = "headrace.dev/pool"
_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_TIMEOUT_S = 10.0


class KubernetesExecutor:
    """See `Executor`. Needs a role that may list, patch and delete pods of its namespace."""

    def __init__(self, pool: Pool, api: str, *, token: Path | None = None, ca: Path | None = None) -> None:
        self._pool = pool
        self._pods = f"{api}/api/v1/namespaces/{pool.where['namespace']}/pods"
        self._token = token
        self._retired: frozenset[str] = frozenset()
        self._session = requests.Session()
        # A proxy of the environment has no business between us and the cluster's own API.
        self._session.trust_env = False
        if ca is not None:
            self._session.verify = str(ca)

    @classmethod
    def of(cls, pool: Pool) -> "KubernetesExecutor":
        """The executor of a pod in the cluster, by its service account."""
        host, port = (
            os.environ.get("KUBERNETES_SERVICE_HOST"),
            os.environ.get("KUBERNETES_SERVICE_PORT", "443"),
        )
        if not host:
            raise SettingsError([f"pools.{pool.name}: executor kubernetes has to run in the cluster"])
        host = f"[{host}]" if ":" in host else host
        return cls(pool, f"https://{host}:{port}", token=_ACCOUNT / "token", ca=_ACCOUNT / "ca.crt")

    def machines(self) -> Sequence[Machine]:
        return [Machine(pod["metadata"]["name"], _state(pod)) for pod in self._list()]

    def grow(self, machines: int) -> None:
        """KEDA does, by what the database says."""

    def retire(self, ids: Collection[str]) -> None:
        self._retired = frozenset(ids)
        self._price(set(ids), GOES)

    def protect(self, staying: Collection[str]) -> None:
        # First in every round: what was retired in an earlier one may be gone.
        self._retired = frozenset()
        self._price(set(staying), STAYS)

    def report(self, state: PoolState) -> None:
        """The database's row is the report. Where it asks for all the pods there are, nobody will take the
        retired ones away, and they claim nothing: deleted, they are replaced by pods that do.
        """
        if not self._retired:
            return
        present = [
            pod["metadata"]["name"] for pod in self._list() if _state(pod) is not MachineState.STOPPING
        ]
        if len(present) <= state.desired + state.draining:
            for name in sorted(self._retired & set(present)):
                self._call("DELETE", f"/{name}")

    def _price(self, ids: set[str], cost: str) -> None:
        for pod in self._list():
            name, annotations = pod["metadata"]["name"], pod["metadata"].get("annotations") or {}
            if name in ids and annotations.get(COST) != cost:
                self._call("PATCH", f"/{name}", json={"metadata": {"annotations": {COST: cost}}})

    def _list(self) -> list[dict[str, Any]]:
        answer = self._call("GET", "", params={"labelSelector": f"{POOL_LABEL}={self._pool.name}"})
        found: list[dict[str, Any]] = answer["items"]
        return found

    def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        headers = {"Content-Type": "application/merge-patch+json"} if method == "PATCH" else {}
        try:
            if self._token is not None:
                # It is renewed on the disk while we run.
                headers["Authorization"] = f"Bearer {self._token.read_text().strip()}"
            answer = self._session.request(
                method, self._pods + path, headers=headers, timeout=_TIMEOUT_S, **arguments
            )
            # A pod that is gone needs no price, and no end.
            if method != "GET" and answer.status_code == requests.codes.not_found:
                return {}
            answer.raise_for_status()
            body: dict[str, Any] = answer.json()
        except (requests.RequestException, OSError) as error:
            raise ExecutorError(f"Kubernetes: {error}") from error
        return body


def _state(pod: dict[str, Any]) -> MachineState:
    if pod["metadata"].get("deletionTimestamp"):
        return MachineState.STOPPING
    phase = pod.get("status", {}).get("phase")
    if phase in ("Succeeded", "Failed"):
        return MachineState.STOPPING
    return MachineState.RUNNING if phase == "Running" else MachineState.STARTING
