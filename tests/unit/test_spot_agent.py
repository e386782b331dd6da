"""The agent: what follows from a look, and that nothing it sees or fails to see hurts."""

from collections.abc import Sequence

import pytest
from structlog.testing import capture_logs

from app.domain.draining import DrainCause, fits
from workers.drainflag import DrainFlag
from workers.spot.agent import Agent
from workers.spot.notice import Kind, Notice, Unreadable

GOES = Notice(Kind.INTERRUPTION, 100.0, "terminate")
MAY_GO = Notice(Kind.REBALANCE, None, "rebalance recommendation")


class Script:
    """A provider that says these one after the other, and then the last one for ever."""

    def __init__(self, said: Sequence[Notice | Exception | None]) -> None:
        self._said = list(said)
        self.told_left = 0

    def look(self) -> Notice | None:
        now = self._said.pop(0) if len(self._said) > 1 else self._said[0]
        if isinstance(now, Exception):
            raise now
        return now

    def left(self) -> None:
        self.told_left += 1
        raise Unreadable("too late")


class Parent:
    """Counts how often it is asked to end."""

    def __init__(self) -> None:
        self.up = True
        self.asked = 0

    def __call__(self) -> bool:
        self.asked += 1
        return self.up


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Day:
    """What an agent made of what it saw, two seconds a look."""

    def __init__(
        self, *said: Notice | Exception | None, looks: int | None = None, cordons: bool = False
    ) -> None:
        clock = Clock()
        self.parent = Parent()
        self.flag = DrainFlag(clock)
        self.bells = Parent()
        agent = Agent(Script(said), self.flag, self.parent, self.bells, cordons=cordons)
        for _ in range(looks or len(said)):
            agent.look()
            clock.now += 2


def test_a_notice_drains_with_its_deadline_and_ends_the_worker_once() -> None:
    day = Day(None, GOES, looks=10)
    assert day.flag.cause is DrainCause.NOTICE
    assert day.parent.asked == 1
    assert day.flag.left_s() == 82, "said again, it is no longer"


def test_a_worker_that_starts_under_a_notice_stays_and_does_nothing() -> None:
    day = Day(GOES, looks=5)
    assert day.flag.is_set()
    assert day.parent.asked == 0, "it would only be started again"
    assert day.bells.asked == 1, "and leaves bells to others"


def test_a_notice_that_is_withdrawn_has_the_idle_worker_started_anew() -> None:
    assert Day(GOES, None, None).parent.asked == 1


def test_a_worker_that_is_not_up_yet_is_asked_again() -> None:
    parent = Parent()
    parent.up = False
    agent = Agent(Script([None, GOES]), DrainFlag(), parent, Parent())
    for _ in range(3):
        agent.look()
    parent.up = True
    agent.look()
    agent.look()
    assert parent.asked == 3


def test_rebalance_is_ignored_unless_the_operator_wants_a_cordon() -> None:
    ignored = Day(None, MAY_GO)
    assert (ignored.flag.cause, ignored.parent.asked) == (None, 0)
    cordoned = Day(None, MAY_GO, cordons=True)
    assert (cordoned.flag.cause, cordoned.parent.asked) == (DrainCause.CORDON, 0)
    assert cordoned.flag.left_s() is None
    assert cordoned.bells.asked == 1
    taken = Day(None, MAY_GO, GOES, cordons=True)
    assert (taken.flag.cause, taken.parent.asked) == (DrainCause.NOTICE, 1)
    assert taken.flag.left_s() is not None


def test_whatever_goes_wrong_is_logged_once_and_the_next_notice_is_heard() -> None:
    busy: list[Notice | Exception | None] = [Unreadable("status 503")] * 5
    with capture_logs() as logs:
        day = Day(*busy, Unreadable("other"), None, RuntimeError("a bug"), GOES, GOES)
    assert [entry["event"] for entry in logs] == [
        "spot.unreadable",
        "spot.unreadable",
        "spot.bug",
        "spot.notice",
    ]
    assert day.flag.is_set()
    assert day.parent.asked == 1


def test_the_cloud_is_told_that_the_worker_left_only_if_it_left_for_the_cloud() -> None:
    provider = Script([None, GOES])
    agent = Agent(provider, DrainFlag(), Parent(), Parent())
    agent.look()
    agent.stop()
    assert provider.told_left == 0
    agent.look()
    agent.stop()
    assert provider.told_left == 1, "and that it can not be told is no error"


def test_our_own_sigterm_does_not_shorten_the_time_and_anothers_does() -> None:
    flag = DrainFlag(Clock())
    flag.enter(DrainCause.NOTICE, 100)
    flag.by_ourselves()
    flag.terminated(25)
    assert (flag.cause, flag.left_s()) == (DrainCause.NOTICE, 100)
    flag.terminated(25)
    assert (flag.cause, flag.left_s()) == (DrainCause.NOTICE, 25)
    flag.enter(DrainCause.OPERATOR, 50)
    assert flag.left_s() == 25
    assert flag.enter(DrainCause.CORDON) is False


@pytest.mark.parametrize(
    ("expected_s", "left_s", "may_go_on"),
    [
        (None, None, True),
        (1e9, None, True),
        (5, 30, True),
        (28.5, 30, False),
        (None, 30, True),
        (None, 1, False),
    ],
)
def test_what_runs_may_go_on_if_it_ends_with_time_to_say_goodbye(
    expected_s: float | None, left_s: float | None, may_go_on: bool
) -> None:
    assert fits(expected_s, left_s) is may_go_on
