"""The verdict on a try: the schedule, its jitter, Retry-After, and what ends a delivery."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.delivery import (
    DELAYS_S,
    JITTER,
    SUBSCRIBABLE,
    DeliveryStatus,
    Event,
    TryError,
    Verdict,
    error_of_status,
    judge,
)
from app.intake.webhook_request import DEFAULT_EVENTS, Subscription

FAILURES = [error for error in TryError if error is not TryError.GONE]
MINUTE, HOUR = 60, 3600

attempts = st.integers(1, len(DELAYS_S) - 1)
failures = st.sampled_from(FAILURES)
jitters = st.floats(0, 1, exclude_max=True)
waits = st.none() | st.floats(0, 1e9)


def test_the_schedule_is_the_contracts() -> None:
    planned = [0, 5, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 10 * HOUR]
    assert list(DELAYS_S) == planned
    made = [judge(attempt, TryError.TIMEOUT, 0.0).delay_s for attempt in range(1, len(planned))]
    assert made == planned[1:]


@given(st.integers(1, 100), jitters, waits)
def test_a_success_ends_it(attempt: int, jitter: float, wait: float | None) -> None:
    assert judge(attempt, None, jitter, wait) == Verdict(DeliveryStatus.DELIVERED)


@given(attempts, failures, jitters)
def test_a_failure_is_tried_again_with_jitter_on_top(attempt: int, error: TryError, jitter: float) -> None:
    verdict = judge(attempt, error, jitter)
    assert verdict.status is DeliveryStatus.PENDING
    assert DELAYS_S[attempt] <= verdict.delay_s <= DELAYS_S[attempt] * (1 + JITTER)
    assert verdict.delay_s == pytest.approx(DELAYS_S[attempt] * (1 + 0.2 * jitter))


@given(st.integers(len(DELAYS_S), 100), failures, jitters, waits)
def test_the_last_failure_ends_it(attempt: int, error: TryError, jitter: float, wait: float | None) -> None:
    assert judge(attempt, error, jitter, wait) == Verdict(DeliveryStatus.FAILED)


@given(st.integers(1, 100), jitters, waits)
def test_gone_ends_it_at_once(attempt: int, jitter: float, wait: float | None) -> None:
    assert judge(attempt, TryError.GONE, jitter, wait) == Verdict(DeliveryStatus.FAILED)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [(None, 300), (0, 300), (299, 300), (301, 301), (450, 450), (600, 600), (601, 600), (1e12, 600)],
)
def test_a_receiver_may_ask_for_up_to_twice_the_delay(asked: float | None, expected: float) -> None:
    assert judge(2, TryError.HTTP_STATUS, 0.0, asked).delay_s == expected


@given(attempts, failures, jitters, waits)
def test_never_sooner_than_planned_nor_later_than_twice(
    attempt: int, error: TryError, jitter: float, wait: float | None
) -> None:
    verdict = judge(attempt, error, jitter, wait)
    assert DELAYS_S[attempt] <= verdict.delay_s <= 2 * DELAYS_S[attempt]
    if wait is not None:
        assert verdict.delay_s >= min(wait, 2 * DELAYS_S[attempt])


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (200, None),
        (202, None),
        (204, None),
        (299, None),
        (100, TryError.HTTP_STATUS),
        (300, TryError.REDIRECT),
        (301, TryError.REDIRECT),
        (304, TryError.REDIRECT),
        (308, TryError.REDIRECT),
        (400, TryError.HTTP_STATUS),
        (404, TryError.HTTP_STATUS),
        (410, TryError.GONE),
        (429, TryError.HTTP_STATUS),
        (500, TryError.HTTP_STATUS),
        (503, TryError.HTTP_STATUS),
    ],
)
def test_what_an_answers_status_means(status: int, error: TryError | None) -> None:
    assert error_of_status(status) is error


def test_what_may_be_subscribed_to_is_what_the_api_takes() -> None:
    assert get_args(Subscription) == tuple(event.value for event in SUBSCRIBABLE)
    assert set(SUBSCRIBABLE) == set(Event) - {Event.ENDPOINT_TEST}
    assert list(DEFAULT_EVENTS) == [Event.JOB_COMPLETED.value]
