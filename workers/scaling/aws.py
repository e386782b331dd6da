"""Machines of AWS: instances of an Auto Scaling group, or tasks of an ECS service.

Every machine that should stay is protected from scale-in, so that nobody but the scaler chooses which goes.
What was asked for and has not come is listed, too: a group that gets no spot capacity isn't asked again.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from app.db.pools import PoolState
from app.domain.pools import Pool
from workers.scaling.executor import Executor, ExecutorError, Machine, MachineState

REPORT_S = 60.0
"""Seconds between two reports to CloudWatch: it keeps a value a minute."""
NAMESPACE = "Headrace"
_ASKED = "asked-"
_CONFIG = Config(connect_timeout=3, read_timeout=10, retries={"mode": "standard", "max_attempts": 3})


def executor_of(pool: Pool) -> Executor:
    """The executor of a pool on AWS. Credentials are found as every AWS SDK finds them."""

    def client(service: str) -> Any:
        return boto3.client(service, region_name=pool.where["region"], config=_CONFIG)

    kind = AutoScalingGroup if pool.executor == "aws-asg" else EcsService
    return kind(pool, client("autoscaling" if kind is AutoScalingGroup else "ecs"), client("cloudwatch"))


class _Aws:
    """What both kinds share."""

    def __init__(
        self, pool: Pool, client: Any, cloudwatch: Any, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._pool = pool
        self._client = client
        self._cloudwatch = cloudwatch
        self._clock = clock
        self._report_at = 0.0

    def report(self, state: PoolState) -> None:
        """Publish what was decided, for alarms and dashboards: at most once a minute."""
        if self._clock() < self._report_at:
            return
        dimensions = [{"Name": "Pool", "Value": state.pool}]
        values = {
            "BacklogSeconds": (state.backlog_s, "Seconds"),
            "DesiredMachines": (state.desired, "Count"),
            "RunningMachines": (state.running, "Count"),
        }
        with _translated():
            self._cloudwatch.put_metric_data(
                Namespace=NAMESPACE,
                MetricData=[
                    {"MetricName": name, "Dimensions": dimensions, "Value": value, "Unit": unit}
                    for name, (value, unit) in values.items()
                ],
            )
        self._report_at = self._clock() + REPORT_S


class AutoScalingGroup(_Aws):
    """See `Executor`. The group has `MinSize` 0, and a lifecycle hook that gives workers time to drain."""

    def machines(self) -> Sequence[Machine]:
        group = self._group()
        found = [
            Machine(one["InstanceId"], _instance_state(one["LifecycleState"])) for one in group["Instances"]
        ]
        return [*found, *_asked(group["DesiredCapacity"], found)]

    def grow(self, machines: int) -> None:
        group = self._group()
        self._resize(min(group["DesiredCapacity"] + machines, group["MaxSize"]))

    def retire(self, ids: Collection[str]) -> None:
        there = {one.id for one in self.machines() if one.state is not MachineState.STOPPING} & set(ids)
        asked = {id for id in there if id.startswith(_ASKED)}
        if asked:
            self._resize(max(0, self._group()["DesiredCapacity"] - len(asked)))
        for id in sorted(there - asked):
            with _translated():
                self._client.terminate_instance_in_auto_scaling_group(
                    InstanceId=id, ShouldDecrementDesiredCapacity=True
                )

    def protect(self, staying: Collection[str]) -> None:
        open_to_all = [
            one["InstanceId"]
            for one in self._group()["Instances"]
            if one["InstanceId"] in set(staying)
            and one["LifecycleState"] == "InService"
            and not one["ProtectedFromScaleIn"]
        ]
        for ids in _in_parts(open_to_all, 50):
            with _translated():
                self._client.set_instance_protection(
                    AutoScalingGroupName=self._name, InstanceIds=ids, ProtectedFromScaleIn=True
                )

    @property
    def _name(self) -> str:
        return self._pool.where["group"]

    def _resize(self, capacity: int) -> None:
        with _translated():
            self._client.set_desired_capacity(
                AutoScalingGroupName=self._name, DesiredCapacity=capacity, HonorCooldown=False
            )

    def _group(self) -> dict[str, Any]:
        with _translated():
            groups = self._client.describe_auto_scaling_groups(AutoScalingGroupNames=[self._name])
        found: list[dict[str, Any]] = groups["AutoScalingGroups"]
        if not found:
            raise ExecutorError(
                f"there is no Auto Scaling group {self._name} in {self._pool.where['region']}"
            )
        return found[0]


class EcsService(_Aws):
    """See `Executor`. A capacity provider with managed scaling brings the instances under the tasks.

    ECS stops only what is not protected, so to stop a task is to leave it as the one that is not.
    """

    PROTECTED_MIN = 2880
    """The longest that ECS protects a task. It is renewed at half of that."""

    def __init__(self, *parts: Any, **more: Any) -> None:
        super().__init__(*parts, **more)
        self._protected: dict[str, float] = {}

    def machines(self) -> Sequence[Machine]:
        found = [Machine(_task_id(one["taskArn"]), _task_state(one["lastStatus"])) for one in self._tasks()]
        return [*found, *_asked(self._service()["desiredCount"], found)]

    def grow(self, machines: int) -> None:
        self._resize(self._service()["desiredCount"] + machines)

    def retire(self, ids: Collection[str]) -> None:
        desired = self._service()["desiredCount"]
        machines = [one for one in self.machines() if one.state is not MachineState.STOPPING]
        going = {one.id for one in machines} & set(ids)
        # More that run than are desired: some were retired before, and ECS has not got round to them.
        leaving = len(machines) - desired
        tasks = sorted(id for id in going if not id.startswith(_ASKED))
        self.protect({one.id for one in machines if not one.id.startswith(_ASKED)} - going)
        self._set_protection(tasks, protected=False)
        staying = max(0, desired - max(0, len(going) - max(0, leaving)))
        if staying < desired:
            self._resize(staying)

    def protect(self, staying: Collection[str]) -> None:
        now, half = self._clock(), self.PROTECTED_MIN * 30.0
        running = {one.id for one in self.machines() if one.state is MachineState.RUNNING}
        self._protected = {id: at for id, at in self._protected.items() if id in running}
        due = [id for id in running & set(staying) if now - self._protected.get(id, -half) >= half]
        self._set_protection(sorted(due), protected=True)

    def _set_protection(self, ids: list[str], *, protected: bool) -> None:
        for part in _in_parts(ids, 10):
            expiry = {"expiresInMinutes": self.PROTECTED_MIN} if protected else {}
            with _translated():
                answer = self._client.update_task_protection(
                    cluster=self._cluster, tasks=part, protectionEnabled=protected, **expiry
                )
            failed = {_task_id(one.get("arn", "")) for one in answer.get("failures", ())}
            for id in part:
                self._protected.pop(id, None)
                if protected and id not in failed:
                    self._protected[id] = self._clock()

    @property
    def _cluster(self) -> str:
        return self._pool.where["cluster"]

    def _resize(self, count: int) -> None:
        with _translated():
            self._client.update_service(
                cluster=self._cluster, service=self._pool.where["service"], desiredCount=count
            )

    def _service(self) -> dict[str, Any]:
        name = self._pool.where["service"]
        with _translated():
            answer = self._client.describe_services(cluster=self._cluster, services=[name])
        found: list[dict[str, Any]] = answer["services"]
        if not found:
            raise ExecutorError(f"there is no service {name} in the ECS cluster {self._cluster}")
        return found[0]

    def _tasks(self) -> Iterator[dict[str, Any]]:
        with _translated():
            pages = self._client.get_paginator("list_tasks").paginate(
                cluster=self._cluster, serviceName=self._pool.where["service"]
            )
            arns = [arn for page in pages for arn in page["taskArns"]]
            for part in _in_parts(arns, 100):
                yield from self._client.describe_tasks(cluster=self._cluster, tasks=part)["tasks"]


def _asked(wanted: int, found: Sequence[Machine]) -> list[Machine]:
    """A name for each machine that was asked for and has not come."""
    missing = wanted - sum(one.state is not MachineState.STOPPING for one in found)
    return [Machine(f"{_ASKED}{number}", MachineState.STARTING) for number in range(1, missing + 1)]


def _instance_state(state: str) -> MachineState:
    if state == "InService":
        return MachineState.RUNNING
    return MachineState.STARTING if state.startswith("Pending") else MachineState.STOPPING


def _task_state(state: str) -> MachineState:
    if state == "RUNNING":
        return MachineState.RUNNING
    starting = state in ("PROVISIONING", "PENDING", "ACTIVATING")
    return MachineState.STARTING if starting else MachineState.STOPPING


def _task_id(arn: str) -> str:
    return arn.rpartition("/")[2]


def _in_parts(ids: list[str], size: int) -> Iterator[list[str]]:
    for start in range(0, len(ids), size):
        yield ids[start : start + size]


@contextmanager
def _translated() -> Iterator[None]:
    """AWS's errors as ours. They name the call and the code, and no credentials."""
    try:
        yield
    except (ClientError, BotoCoreError) as error:
        raise ExecutorError(f"AWS: {error}") from error
