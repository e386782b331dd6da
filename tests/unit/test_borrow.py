"""Cores of idle siblings: used while they make a lone run faster, and left alone otherwise."""

from collections.abc import Iterator

import pytest
import torch

from workers.borrow import PATIENCE, PAUSE_S, Borrowed


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    # Another test of this process may have compiled something.
    monkeypatch.setattr("workers.borrow._compiles", lambda: False)
    yield
    torch.set_num_threads(before)


def test_a_lone_run_has_the_cores_of_idle_siblings_too_and_gives_them_back() -> None:
    def run() -> None:
        with Borrowed(True).cores(2, 0.01) as borrowed:
            assert borrowed
            assert torch.get_num_threads() == 3
            raise ValueError("the model")

    with pytest.raises(ValueError, match="the model"):
        run()
    assert torch.get_num_threads() == 1


@pytest.mark.parametrize(
    ("on", "idle", "predicted_s"),
    [(False, 1, 0.01), (True, 0, 0.01), (True, 1, None), (True, 1, 0.0001)],
    ids=["threads are configured", "siblings are busy", "nothing is known yet", "too short to gain"],
)
def test_there_are_no_cores_to_borrow(on: bool, idle: int, predicted_s: float | None) -> None:
    with Borrowed(on).cores(idle, predicted_s) as borrowed:
        assert not borrowed
        assert torch.get_num_threads() == 1


def test_compiled_models_keep_their_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.borrow._compiles", lambda: True)
    with Borrowed(True).cores(1, 0.01) as borrowed:
        assert not borrowed


def test_runs_that_are_not_faster_end_the_borrowing_for_a_while() -> None:
    clock = Clock()
    cores = Borrowed(True, clock)
    for seconds in (0.02, 0.02, 0.005, *[0.02] * PATIENCE):
        with cores.cores(1, 0.01) as borrowed:
            assert borrowed, "one faster run makes up for slow ones before it"
            clock.now += seconds
    with cores.cores(1, 0.01) as borrowed:
        assert not borrowed
    clock.now += PAUSE_S
    with cores.cores(1, 0.01) as borrowed:
        assert borrowed
