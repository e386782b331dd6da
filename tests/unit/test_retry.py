"""Backoff after errors, and caps after crashes."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.retry import RetryPolicy, cap_after_crash


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True), st.integers(1, 10_000), st.integers(1, 10**7))
def test_delays_stay_between_half_and_all_of_the_ceiling(
    attempt: int, jitter: float, initial: int, most: int
) -> None:
    policy = RetryPolicy(max_attempts=200, initial_delay_ms=initial, max_delay_ms=most)
    ceiling = min(initial * 2 ** (attempt - 1), most) / 1000
    assert ceiling / 2 <= policy.delay_s(attempt, jitter) <= ceiling * 1.0001


def test_attempts_are_counted_and_final_errors_are_final() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert [policy.again(attempt, True) for attempt in (1, 2, 3)] == [True, True, False]
    assert not policy.again(1, False)


@given(st.integers(1, 1000), st.integers(1, 10))
def test_the_last_try_before_giving_up_is_alone(size: int, max_crashes: int) -> None:
    for crashes in range(1, max_crashes):
        assert 1 <= cap_after_crash(size, crashes, max_crashes) <= size
    if max_crashes > 1:
        assert cap_after_crash(size, max_crashes - 1, max_crashes) == 1


def test_one_poison_among_32_is_found_in_two_steps() -> None:
    assert cap_after_crash(32, 1, 3) == 5
    assert cap_after_crash(5, 2, 3) == 1
