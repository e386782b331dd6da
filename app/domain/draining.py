"""Draining: why a worker leaves, and what becomes of the micro-batch that runs meanwhile."""

from enum import StrEnum

GOODBYE_S = 2.0
"""What giving leases back takes, with room to spare: work has to end this long before the machine does."""


class DrainCause(StrEnum):
    """Who or what said that a worker is to leave."""

    SIGTERM = "sigterm"
    NOTICE = "notice"
    CORDON = "cordon"
    OPERATOR = "operator"


def fits(expected_s: float | None, left_s: float | None) -> bool:
    """Whether what runs may go on, being predicted to end in `expected_s` seconds, with `left_s` left.

    What can't be predicted (None) may, and what is overdue, until the time is up; without a time limit
    (None) all may.
    """
    if left_s is None:
        return True
    return left_s > GOODBYE_S and (expected_s is None or expected_s <= left_s - GOODBYE_S)
