"""Being told to stop: by Ctrl-C while something is waited for, or because that is how a command ends."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import click

from headrace.cli.output import complain

INTERRUPTED = 130
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


@contextmanager
def asked_to_stop() -> Iterator[Callable[[], bool]]:
    """Whether Ctrl-C, SIGTERM or a closed terminal asked for an end.

    None of them breaks off what is under way, so that nothing is left half done. Who asks twice is
    obeyed at once, by a `KeyboardInterrupt`. For the main thread.
    """
    asked: list[int] = []

    def ask(number: int, _: FrameType | None) -> None:
        asked.append(number)
        signal.signal(number, signal.default_int_handler)

    # Windows has no SIGHUP.
    numbers = [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def told_if_interrupted(what_goes_on: str) -> Iterator[None]:
    """Ctrl-C within ends the command alone: say what goes on, and how to get back to it or to end it."""
    try:
        yield
    except KeyboardInterrupt:
        complain(f"interrupted; {what_goes_on}")
        raise click.exceptions.Exit(INTERRUPTED) from None


def job_goes_on(job_id: str) -> str:
    """What is said of a job that nobody waits for any more."""
    return f"{job_id} goes on (headrace wait {job_id}; or end it: headrace cancel {job_id})"
