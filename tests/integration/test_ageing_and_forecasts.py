"""Low priorities are not overtaken for ever, and who waits is told its place and when its turn comes."""

import time
from dataclasses import replace
from uuid import UUID

import pytest

from app.db import forecast, models, speeds, upkeep
from app.db.engine import Engine
from app.db.forecast import Pace
from app.domain.cost import Work
from app.domain.lanes import Lane, Priority
from app.intake.forecast import Forecasts
from tests.support.jobs import Queue
from workers.maintenance.age import Age


def aged_id(minutes: float, number: int = 0) -> UUID:
    """The id of a job that was accepted so long ago."""
    millis = int((time.time() - minutes * 60) * 1000)
    return UUID(int=(millis << 80) | (7 << 76) | (2 << 62) | number)


def priorities(queue: Queue) -> dict[UUID, int]:
    return dict(queue.execute("SELECT job_id, priority FROM job_ready"))


def test_who_is_overtaken_moves_up_a_priority_for_each_while_it_waited(queue: Queue) -> None:
    high = queue.submit(priority=Priority.HIGH)
    waited = {minutes: queue.submit(id=aged_id(minutes), priority=Priority.LOW) for minutes in (1, 6, 11)}
    age = Age(queue.engine, 300.0)
    assert [age.run_once() for _ in range(4)] == [2, 1, 0, 0]
    assert priorities(queue) == {high: 0, waited[1]: 2, waited[6]: 1, waited[11]: 0}


def test_where_nobody_overtakes_nothing_moves(queue: Queue) -> None:
    queue.submit(id=aged_id(60), priority=Priority.LOW)
    queue.submit(id=aged_id(60, 1), priority=Priority.HIGH, lane=Lane.BATCH)
    assert upkeep.age(queue.engine, 300.0) == 0


def test_each_waiting_job_knows_its_place_and_when_its_turn_comes(queue: Queue) -> None:
    first, second = queue.submit(), queue.submit()
    urgent = queue.submit(priority=Priority.HIGH)
    told = Forecasts(queue.engine, lambda: 0.0)
    assert [told.of(queue.get(job))["queue_position"] for job in (urgent, first, second)] == [1, 2, 3]
    assert told.of(queue.get(first))["eta_s"] is None, "nothing was measured yet"
    queue.worker()
    queue.worker(name="test/1")
    speeds.note(queue.engine, "default", {queue.echo.id: Work(100, 100, 20.0)})
    told = Forecasts(queue.engine, lambda: 0.0)
    # Two children, five jobs a second each.
    assert told.of(queue.get(second)) == {"queue_position": 3, "eta_s": pytest.approx(0.3, rel=0.01)}


def test_what_runs_or_ended_or_is_too_far_behind_is_told_nothing(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = Forecasts(queue.engine, lambda: 0.0)
    running = queue.submit()
    queue.claim(queue.worker())
    assert told.of(queue.get(running)) == {}
    jobs = [queue.submit() for _ in range(4)]
    monkeypatch.setattr(forecast, "MOST", 3)
    assert [told.of(queue.get(job)).get("queue_position") for job in jobs] == [1, 2, 3, None]


@pytest.mark.parametrize(
    ("pace", "children", "seconds"),
    [(Pace(None, 0), 2, None), (Pace(5.0, 0), 0, None), (Pace(5.0, 0), 2, 0.1), (Pace(5.0, 10), 2, 0.6)],
)
def test_a_forecast_needs_children_and_a_measured_speed(
    pace: Pace, children: int, seconds: float | None
) -> None:
    assert pace.seconds(0, children) == seconds


def test_children_are_counted_once_for_all_versions_of_a_queue(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their table is read for it from end to end."""
    asked, count = list[str](), forecast.children

    def counted(engine: Engine, of: str) -> int:
        asked.append(of)
        return count(engine, of)

    monkeypatch.setattr(forecast, "children", counted)
    told = Forecasts(queue.engine, lambda: 0.0)
    queue.worker()
    for number in range(3):
        models.register(queue.engine, replace(queue.echo.spec, name=f"model-{number}"), actor="test")
        version = models.find(queue.engine, f"model-{number}", None)
        assert version is not None
        speeds.note(queue.engine, "default", {version.id: Work(100, 100, 10.0)})
        assert told.of(queue.get(queue.submit(version=version)))["eta_s"] == pytest.approx(0.1)
    assert asked == ["cpu.interactive"]
