"""The scaler on a real queue: ticks with an executor that only remembers, and a clock of the test's."""

from collections.abc import Collection, Sequence

from app.db import pools as sql
from app.db import speeds, workers
from app.db.pools import PoolState
from app.domain.cost import Work
from app.domain.pools import Pool
from app.domain.stages import WorkerIdentity
from tests.support.jobs import Queue, succeeded
from workers.scaling.executor import ExecutorError, Machine, MachineState
from workers.scaling.scaler import LOCK, Scaler
from workers.settle import settle

POOL = Pool(name="a", queues=("cpu.interactive",), max=5, target_s=1, cooldown_s=10)


class Remembering:
    """An executor whose machines come when the test says so."""

    def __init__(self) -> None:
        self.states: dict[str, MachineState] = {}
        self.retired: list[str] = []
        self.staying: set[str] = set()
        self.broken = False

    def machines(self) -> Sequence[Machine]:
        if self.broken:
            raise ExecutorError("nobody answers")
        return [Machine(id, state) for id, state in self.states.items()]

    def grow(self, machines: int) -> None:
        for _ in range(machines):
            self.states[f"a-{len(self.states) + 1}"] = MachineState.STARTING

    def retire(self, ids: Collection[str]) -> None:
        self.retired += sorted(ids)
        self.states |= dict.fromkeys(ids, MachineState.STOPPING)

    def protect(self, staying: Collection[str]) -> None:
        self.staying = set(staying)

    def report(self, state: PoolState) -> None:
        pass


class Story:
    """A scaler, its executor, and the machines that came."""

    def __init__(self, queue: Queue) -> None:
        self.queue, self.now, self.executor = queue, 0.0, Remembering()
        self.scaler = Scaler(queue.engine, [POOL], {"a": self.executor}, lambda: self.now)
        speeds.note(queue.engine, "a", {queue.echo.id: Work(10, 10, 10.0)})

    def tick(self, passed: float = 1.0) -> int:
        self.now += passed
        return self.scaler.tick()["a"].desired

    def come(self) -> dict[str, WorkerIdentity]:
        """Machines that were asked for have a worker now."""
        came = {}
        for id, state in self.executor.states.items():
            if state is MachineState.STARTING:
                self.executor.states[id] = MachineState.RUNNING
                came[id] = self.queue.worker(pool="a", machine=id)
        return came


def test_from_nothing_to_many_and_back_without_a_lease_that_is_cut_off(queue: Queue) -> None:
    story = Story(queue)
    assert story.tick() == 0
    for _ in range(3):
        queue.submit()
    assert story.tick() == 3
    assert story.tick() == 3
    assert len(story.executor.states) == 3, "what was asked for is not asked for again"
    came = story.come()
    jobs = {id: queue.claim(worker, window=1)[0] for id, worker in came.items()}
    assert story.tick() == 3
    assert story.executor.staying == set(came)
    for id in ("a-1", "a-2"):
        settle(queue.engine, came[id], [succeeded(jobs[id])])
    # One job runs; two machines are not needed, once they were not for the cooldown.
    assert story.tick(5) == 3
    assert story.tick(10) == 1
    assert story.executor.retired == [], "they are told to claim nothing, and stopped after"
    queue.submit()
    assert queue.claim(came["a-1"]) == []
    story.tick()
    assert story.executor.retired == ["a-1", "a-2"]
    (left,) = queue.claim(came["a-3"], window=1)
    settle(queue.engine, came["a-3"], [succeeded(jobs["a-3"]), succeeded(left)])
    assert story.tick(20) == 0
    story.tick()
    assert story.executor.retired == ["a-1", "a-2", "a-4", "a-3"]


def test_a_machine_that_holds_a_lease_is_drained_first_and_kept_meanwhile(queue: Queue) -> None:
    story = Story(queue)
    worker = queue.worker(pool="a", machine="old")
    story.executor.states["old"] = MachineState.RUNNING
    queue.submit()
    (job,) = queue.claim(worker)
    sql.drain(queue.engine, "a", ["old"])
    # Its job still runs, so one machine is wanted, and this one is none any more.
    assert story.tick() == 1
    assert story.executor.retired == []
    assert sql.states(queue.engine)["a"].draining == 1
    assert queue.execute("SELECT headrace_desired('a')") == [(2,)]
    settle(queue.engine, worker, [succeeded(job)])
    assert "old" in story.executor.staying
    story.tick()
    assert story.executor.retired == ["old"]
    assert "old" not in story.executor.staying


def test_a_machine_that_is_gone_is_replaced(queue: Queue) -> None:
    story = Story(queue)
    queue.submit()
    story.tick()
    came = story.come()
    del story.executor.states["a-1"]
    story.tick()
    assert list(story.executor.states.values()) == [MachineState.STARTING]
    workers.stop(queue.engine, came["a-1"].id)


def test_an_executor_that_fails_is_tried_again_and_stops_no_other_pool(queue: Queue) -> None:
    story = Story(queue)
    other = POOL.model_copy(update={"name": "b"})
    fine = Remembering()
    scaler = Scaler(queue.engine, [POOL, other], {"a": story.executor, "b": fine}, lambda: story.now)
    queue.submit()
    story.executor.broken = True
    assert set(scaler.tick()) == {"b"}
    assert len(fine.states) == 1
    story.executor.broken = False
    assert set(scaler.tick()) == {"a", "b"}


def test_one_scaler_works_at_a_time(queue: Queue) -> None:
    story = Story(queue)
    from app.db import upkeep

    with upkeep.only_one(queue.engine, LOCK) as ours:
        assert ours
        assert story.scaler.tick() == {}
