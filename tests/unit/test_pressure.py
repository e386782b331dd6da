"""Back-pressure: who is refused, for which wait, with what is known of the work and of its speed."""

from collections import deque
from collections.abc import Callable

import pytest

from app.db.pressure import Work
from app.domain.lanes import Device, Lane
from app.domain.pressure import Load
from app.errors import Overloaded
from app.intake import pressure as module
from app.intake.pressure import Pressure

INTERACTIVE, BATCH = Lane.INTERACTIVE, Lane.BATCH


class World:
    """A clock and a count of work that are set by hand, and a limit of 60 seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.work = Work({}, 0)
        self.counted = 0
        self.later = deque[Callable[[], None]]()
        monkeypatch.setattr(module.sql, "work", self._count)
        self.pressure = Pressure(None, 60.0, lambda: self.now, self.later.append)  # type: ignore[arg-type]

    def _count(self, _: object) -> Work:
        self.counted += 1
        return self.work

    def tick(self, seconds: float, load: Load | None, done: int = 0) -> None:
        """So much later this waits, and so many more are done. Somebody asks, so it is counted."""
        self.now += seconds
        self.work = Work({} if load is None else {Device.CPU: load}, self.work.results + done)
        self.refused(BATCH)
        while self.later:
            self.later.popleft()()

    def refused(self, lane: Lane, device: Device | None = None, jobs: int = 1) -> float | None:
        """After how many seconds the client is to come again; None if it was let in."""
        try:
            self.pressure.admit(lane, device, jobs)
        except Overloaded as error:
            return error.retry_after_s
        return None


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def a_load(interactive: int, each_s: float | None = 0.1, oldest_s: float = 0.0) -> Load:
    """Interactive jobs for two children of both lanes."""
    work_s = None if each_s is None else interactive * each_s
    return Load(interactive, 0, work_s, 0.0, on_interactive=2, on_batch=2, on_both=2, oldest_s=oldest_s)


@pytest.mark.parametrize(
    ("jobs", "batch_is_open", "interactive_is_open"),
    [(500, True, True), (800, False, True), (1300, False, False)],
)
def test_batches_close_before_interactive_jobs_do(
    world: World, jobs: int, batch_is_open: bool, interactive_is_open: bool
) -> None:
    world.tick(1, a_load(jobs))
    assert (world.refused(BATCH) is None) == batch_is_open
    assert (world.refused(INTERACTIVE, Device.CPU) is None) == interactive_is_open


def test_who_is_refused_is_told_when_there_is_room(world: World) -> None:
    world.tick(1, a_load(1300))
    assert world.refused(INTERACTIVE, Device.CPU) == pytest.approx(5)


def test_a_burst_is_not_let_in_whole_before_it_is_counted(world: World) -> None:
    world.tick(1, a_load(100))
    let_in = sum(world.refused(INTERACTIVE, Device.CPU) is None for _ in range(5000))
    # 1,200 jobs are 60 seconds of work: the job that makes it more is the last.
    assert let_in == pytest.approx(1100, abs=2)


def test_what_was_let_in_is_counted_once(world: World) -> None:
    world.tick(1, a_load(100))
    assert world.refused(INTERACTIVE, Device.CPU, 1000) is None
    world.tick(1, a_load(1100))
    assert world.refused(INTERACTIVE, Device.CPU, 90) is None
    assert world.refused(INTERACTIVE, Device.CPU, 90) is None
    assert world.refused(INTERACTIVE, Device.CPU) is not None


def test_one_device_is_full_and_another_is_open(world: World) -> None:
    world.tick(1, a_load(1300))
    assert world.refused(INTERACTIVE, Device.GPU) is None
    assert world.refused(BATCH) is not None, "a batch may have jobs for any"


def test_counting_is_done_beside_requests_and_takes_a_twentieth_of_the_time(world: World) -> None:
    world.work = Work({}, 0, took_s=0.5)
    assert world.refused(INTERACTIVE, Device.CPU) is None
    assert world.counted == 1, "the first one waits for it"
    world.now += 4
    world.refused(INTERACTIVE, Device.CPU)
    world.now += 10
    world.refused(INTERACTIVE, Device.CPU)
    assert world.counted == 2
    assert not world.later, "what is known is old: this one waited, too"
    world.now += 0.1
    world.refused(INTERACTIVE, Device.CPU)
    assert (world.counted, len(world.later)) == (2, 0)


def test_a_busy_process_that_waited_long_for_a_count_soon_asks_for_the_next(world: World) -> None:
    def late(_: object) -> Work:
        world.counted += 1
        world.now += 0.5
        return world.work

    module.sql.work = late  # the fixture puts it back
    world.work = Work({}, 0, took_s=0.002)
    world.refused(INTERACTIVE, Device.CPU)
    world.now += 0.3
    world.refused(INTERACTIVE, Device.CPU)
    assert len(world.later) == 1


def test_a_version_that_never_ran_goes_by_the_results_of_lately(world: World) -> None:
    for _ in range(15):
        world.tick(1, a_load(700, each_s=None), done=10)
    assert world.refused(INTERACTIVE, Device.CPU) == pytest.approx(10, abs=1)


def test_while_nothing_is_done_the_oldest_tells(world: World) -> None:
    world.tick(1, a_load(10, oldest_s=90.0))
    assert world.refused(INTERACTIVE, Device.CPU) is None
    for _ in range(6):
        world.tick(1, a_load(10, oldest_s=90.0))
    assert world.refused(INTERACTIVE, Device.CPU) == pytest.approx(30)


def test_an_empty_queue_is_open(world: World) -> None:
    for _ in range(10):
        world.tick(1, None)
    assert world.refused(BATCH) is None


def test_interactive_work_delays_batches_as_far_as_the_same_children_do_it() -> None:
    both = Load(100, 100, 10.0, 20.0, on_interactive=2, on_batch=2, on_both=2)
    assert (both.seconds(INTERACTIVE), both.seconds(BATCH)) == (5.0, 15.0)
    apart = Load(100, 100, 10.0, 20.0, on_interactive=2, on_batch=4, on_both=0)
    assert (apart.seconds(INTERACTIVE), apart.seconds(BATCH)) == (5.0, 5.0)
    nobody = Load(100, 0, 10.0, 0.0, on_interactive=0, on_batch=0, on_both=0)
    assert nobody.seconds(INTERACTIVE) is None
