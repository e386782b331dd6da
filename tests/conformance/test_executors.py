"""One suite for every executor: it brings machines, stops those it is told to, and says when it can't."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from app.db.pools import PoolState
from app.domain.pools import Pool
from app.embedded.program import Program
from app.embedded.state import StateDir
from app.embedded.supervisor import Supervisor
from tests.support.pods import Cluster, serve
from tests.support.waiting import wait_until
from workers.scaling.executor import Executor, ExecutorError, MachineState
from workers.scaling.kubernetes import KubernetesExecutor
from workers.scaling.local import LocalExecutor

REGION = {"region": "eu-central-1"}


def pool(executor: str, **where: str) -> Pool:
    return Pool(name="batch", queues=("cpu.batch",), max=4, executor=executor, where=where)  # type: ignore[arg-type]


@dataclass
class World:
    """An executor with what is on its other side."""

    executor: Executor
    settle: Callable[[], None]
    """Lets the other side do what it was asked for."""
    break_off: Callable[[], None]
    """From now on the other side does not answer."""
    scaled_by_others: Callable[[int], None] | None = None
    """Where somebody else starts and stops what the executor has named: makes it so many machines."""

    def alive(self) -> set[str]:
        return {one.id for one in self.executor.machines() if one.state is not MachineState.STOPPING}

    def grow(self, count: int) -> set[str]:
        """The new ones, once they run."""
        before = self.alive()
        self.executor.grow(count)
        if self.scaled_by_others:
            self.scaled_by_others(len(before) + count)

        def came() -> set[str] | None:
            self.settle()
            states = {one.id: one.state for one in self.executor.machines()}
            new = {id for id, state in states.items() if state is MachineState.RUNNING} - before
            return new if len(new) == count else None

        return wait_until(came, 20, f"{count} machines to run") or set()


@contextlib.contextmanager
def local(tmp_path: Path) -> Iterator[World]:
    state = StateDir(tmp_path / "state")
    state.create()
    supervisor = Supervisor(state)
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    programs = [Program(Supervisor.machine("batch", number), command, machine=True) for number in range(1, 5)]
    process = supervisor.start(programs, os.environ, attached=True)
    try:
        # Who is told to stop between its fork and its exec does not hear it, and is killed 10 s later.
        wait_until(lambda: supervisor.processes()[0].state == "RUNNING", 20, "supervisord and its reaper")
        yield World(LocalExecutor(pool("local"), state.root), lambda: None, supervisor.shutdown)
    finally:
        with contextlib.suppress(Exception):
            supervisor.shutdown()
        process.wait(20)


@contextlib.contextmanager
def kubernetes(tmp_path: Path) -> Iterator[World]:
    cluster = Cluster("let-me-in")
    (tmp_path / "token").write_text("let-me-in\n")

    def scale(count: int) -> None:
        """As a ReplicaSet does: what costs least to delete goes first."""
        for number in range(100, 200):
            if len(cluster.pods) >= count:
                break
            if f"batch-{number}" not in seen:
                seen.add(f"batch-{number}")
                cluster.pod(f"batch-{number}", "batch")
        for name in sorted(cluster.pods, key=lambda name: int(cluster.cost(name) or 0))[
            : len(cluster.pods) - count
        ]:
            del cluster.pods[name]

    seen: set[str] = set()
    with serve(cluster) as url:
        made = pool("kubernetes", namespace="default", deployment="batch")
        executor = KubernetesExecutor(made, url, token=tmp_path / "token")
        yield World(executor, lambda: None, lambda: setattr(cluster, "token", "changed"), scale)


@contextlib.contextmanager
def asg(tmp_path: Path) -> Iterator[World]:
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    from workers.scaling.aws import AutoScalingGroup

    with moto.mock_aws():
        options: Any = {"region_name": "eu-central-1", "aws_access_key_id": "x", "aws_secret_access_key": "y"}
        client, ec2 = boto3.client("autoscaling", **options), boto3.client("ec2", **options)
        subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
        image = ec2.register_image(Name="of-ours")["ImageId"]
        client.create_launch_configuration(
            LaunchConfigurationName="c", ImageId=image, InstanceType="c7i.large"
        )
        client.create_auto_scaling_group(
            AutoScalingGroupName="batch",
            LaunchConfigurationName="c",
            MinSize=0,
            MaxSize=4,
            DesiredCapacity=0,
            VPCZoneIdentifier=subnet,
        )
        made = pool("aws-asg", **REGION, group="batch")
        executor = AutoScalingGroup(made, client, boto3.client("cloudwatch", **options))
        yield World(
            executor,
            lambda: None,
            lambda: client.delete_auto_scaling_group(AutoScalingGroupName="batch", ForceDelete=True),
        )


@contextlib.contextmanager
def ecs(tmp_path: Path) -> Iterator[World]:
    pytest.importorskip("boto3")
    from tests.support.ecs import Service
    from workers.scaling.aws import EcsService

    service = Service()
    made = pool("aws-ecs", **REGION, cluster="headrace", service="batch")
    yield World(
        EcsService(made, service.client(), None), service.settle, lambda: setattr(service, "away", True)
    )


@pytest.fixture(params=[local, kubernetes, asg, ecs], ids=lambda made: made.__name__)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with request.param(tmp_path) as made:
        yield made


def test_it_brings_machines_and_stops_exactly_those_it_is_told_to(world: World) -> None:
    assert world.executor.machines() == []
    first = world.grow(1)
    more = world.grow(2)
    assert world.alive() == first | more
    (leaving,) = first
    world.executor.protect(more)
    world.executor.retire([leaving])
    if world.scaled_by_others:
        world.scaled_by_others(2)
    wait_until(lambda: (world.settle(), world.alive() == more)[1], 20, "one machine to be gone, and no other")
    world.executor.retire([leaving])
    world.executor.retire([])
    world.settle()
    assert world.alive() == more, "nothing is put in its place, and asking twice stops no other"


def test_two_that_are_stopped_one_after_the_other_are_two(world: World) -> None:
    one, two, three = sorted(world.grow(3))
    world.executor.protect([three])
    world.executor.retire([one])
    world.executor.retire([one, two])
    if world.scaled_by_others:
        world.scaled_by_others(1)
    wait_until(lambda: (world.settle(), world.alive() == {three})[1], 20, "only the third to be left")


def test_protecting_again_and_again_is_harmless(world: World) -> None:
    machines = world.grow(2)
    for _ in range(3):
        world.executor.protect(machines)
    world.settle()
    assert world.alive() == machines


def test_what_is_not_reachable_is_said_so(world: World) -> None:
    world.break_off()

    def fails() -> bool:
        with contextlib.suppress(ExecutorError):
            world.executor.machines()
            return False
        return True

    wait_until(fails, 20, "an ExecutorError")


def test_capacity_that_does_not_come_is_not_asked_for_again(tmp_path: Path) -> None:
    pytest.importorskip("boto3")
    from tests.support.ecs import Service
    from workers.scaling.aws import EcsService

    service = Service()
    executor = EcsService(
        pool("aws-ecs", **REGION, cluster="headrace", service="batch"), service.client(), None
    )
    executor.grow(3)
    assert [one.state for one in executor.machines()] == [MachineState.STARTING] * 3
    executor.retire([one.id for one in executor.machines()][:2])
    assert service.desired == 1


def test_what_was_decided_is_published_once_a_minute() -> None:
    boto3, moto = pytest.importorskip("boto3"), pytest.importorskip("moto")
    from workers.scaling.aws import AutoScalingGroup

    now = 100.0
    with moto.mock_aws():
        cloudwatch = boto3.client(
            "cloudwatch", region_name="eu-central-1", aws_access_key_id="x", aws_secret_access_key="y"
        )
        executor = AutoScalingGroup(pool("aws-asg", **REGION, group="batch"), None, cloudwatch, lambda: now)
        for backlog_s in (12.0, 99.0):
            executor.report(PoolState("batch", 3, "backlog", 2, 1, 0, backlog_s))
        listed = cloudwatch.list_metrics(Namespace="Headrace")["Metrics"]
        assert {one["MetricName"] for one in listed} == {
            "BacklogSeconds",
            "DesiredMachines",
            "RunningMachines",
        }
        assert len(listed) == 3
        now += 60
        executor.report(PoolState("batch", 3, "backlog", 2, 1, 0, 5.0))
        assert len(cloudwatch.list_metrics(Namespace="Headrace")["Metrics"]) in (3, 6)
