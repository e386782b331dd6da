"""Pods that KEDA scales, with the real database: what it is told, and what becomes of marked pods."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app.db import speeds
from app.domain.cost import Work
from app.domain.pools import Pool
from tests.support.jobs import Queue, succeeded
from tests.support.pods import Cluster, serve
from workers.scaling.kubernetes import KubernetesExecutor
from workers.scaling.scaler import Scaler
from workers.settle import settle

POOL = Pool(
    name="a",
    queues=("cpu.interactive",),
    max=5,
    target_s=1,
    cooldown_s=10,
    executor="kubernetes",
    where={"namespace": "headrace", "deployment": "worker-a"},
)


class Story:
    """A scaler, and a cluster in which the test does what KEDA and the ReplicaSet do."""

    def __init__(self, queue: Queue, url: str, cluster: Cluster, token: Path) -> None:
        self.queue, self.cluster, self.now = queue, cluster, 0.0
        executor = KubernetesExecutor(POOL, url, token=token)
        self.scaler = Scaler(queue.engine, [POOL], {"a": executor}, lambda: self.now)
        speeds.note(queue.engine, "a", {queue.echo.id: Work(10, 10, 10.0)})

    def tick(self, passed: float = 1.0) -> int:
        """What KEDA is told after a round of the scaler."""
        self.now += passed
        self.scaler.tick()
        ((answer,),) = self.queue.execute("SELECT headrace_desired('a')")
        return int(answer)


@pytest.fixture
def story(queue: Queue, tmp_path: Path) -> Iterator[Story]:
    (tmp_path / "token").write_text("secret")
    cluster = Cluster("secret")
    with serve(cluster) as url:
        yield Story(queue, url, cluster, tmp_path / "token")


def test_pods_that_hold_leases_are_counted_and_are_the_last_to_go(story: Story) -> None:
    queue = story.queue
    assert story.tick() == 0
    queue.submit()
    queue.submit()
    assert story.tick() == 2
    for name in ("one", "two"):
        story.cluster.pod(name, "a")
    one, two = (queue.worker(pool="a", machine=name) for name in ("one", "two"))
    (first,), (second,) = queue.claim(one, window=1), queue.claim(two, window=1)
    settle(queue.engine, one, [succeeded(first)])
    story.tick(11)
    assert story.tick(11) == 1
    assert int(story.cluster.cost("one") or 0) < int(story.cluster.cost("two") or 0)
    settle(queue.engine, two, [succeeded(second)])


def test_a_marked_pod_that_is_needed_again_is_replaced_by_one_that_claims(story: Story) -> None:
    queue = story.queue
    story.cluster.pod("idle", "a")
    queue.worker(pool="a", machine="idle")
    story.tick()
    story.tick(11)
    assert story.tick(11) == 0
    assert set(story.cluster.pods) == {"idle"}, "marked, and KEDA's to take away"
    # Before KEDA did, there is work: one pod is wanted and there is one, but it claims nothing any more.
    queue.submit()
    assert story.tick() == 1
    assert not story.cluster.pods, "its ReplicaSet puts another in its place"
