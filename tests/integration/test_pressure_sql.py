"""What back-pressure reads from Postgres: the work that waits, in seconds, and who listens for it."""

import pytest

from app.db import pressure, speeds
from app.domain.cost import Work
from app.domain.lanes import Device, Lane
from tests.support.crew import register
from tests.support.jobs import Queue


def test_an_empty_queue_holds_no_work(queue: Queue) -> None:
    queue.worker()
    work = pressure.work(queue.engine)
    assert work.loads == {}
    assert 0 < work.took_s < 5


def test_work_is_what_waits_times_what_each_takes(queue: Queue) -> None:
    other = register(queue, "Double")
    queue.worker(queues=("cpu.interactive", "cpu.batch"))
    queue.worker(name="test/1", queues=("cpu.batch",))
    queue.worker(name="test/2", queues=("gpu.interactive",))
    for _ in range(3):
        queue.submit()
    queue.submit(lane=Lane.BATCH)
    speeds.note(queue.engine, "default", {queue.echo.id: Work(100, 100, 20.0)})
    load = pressure.work(queue.engine).loads[Device.CPU]
    assert (load.interactive, load.batch) == (3, 1)
    assert (load.interactive_s, load.batch_s) == (pytest.approx(0.6), pytest.approx(0.2))
    assert (load.on_interactive, load.on_batch, load.on_both) == (1, 2, 1)
    assert 0 <= load.oldest_s < 60
    queue.submit(version=other)
    load = pressure.work(queue.engine).loads[Device.CPU]
    assert (load.interactive, load.interactive_s) == (4, None), "one of them was never measured"
