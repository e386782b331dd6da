"""Forming micro-batches, by property."""

from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.batching import form
from app.domain.retry import RetryPolicy
from app.domain.stages import ClaimedJob, PreparedJob


def prepared(number: int, units: int, cap: int | None) -> PreparedJob:
    job = ClaimedJob(UUID(int=number), 1, {}, 0, 0, cap, 60.0, RetryPolicy())
    return PreparedJob(job, None, units)


@st.composite
def windows(draw: st.DrawFn) -> list[PreparedJob]:
    sizes = draw(st.lists(st.integers(1, 300), max_size=60))
    caps = st.one_of(st.none(), st.integers(1, 8))
    return [prepared(number, units, draw(caps)) for number, units in enumerate(sizes)]


@settings(max_examples=500)
@given(windows(), st.integers(1, 16), st.one_of(st.none(), st.integers(1, 2000)))
def test_every_job_is_in_exactly_one_micro_batch_and_no_cap_is_passed(
    jobs: list[PreparedJob], max_items: int, max_units: int | None
) -> None:
    batches = form(jobs, max_items=max_items, max_units=max_units)
    placed = [item.job.id for batch in batches for item in batch.jobs]
    assert sorted(placed) == sorted(item.job.id for item in jobs)
    for batch in batches:
        assert 1 <= len(batch.jobs) <= max_items
        assert len(batch.jobs) <= min((item.job.batch_cap or max_items) for item in batch.jobs)
        assert len({item.job.batch_cap is None for item in batch.jobs}) == 1
        assert max_units is None or len(batch.jobs) == 1 or batch.padded_units <= max_units


@given(windows(), st.integers(1, 16))
def test_jobs_without_a_cap_are_batched_by_size_and_run_before_suspects(
    jobs: list[PreparedJob], max_items: int
) -> None:
    order = [item for batch in form(jobs, max_items=max_items) for item in batch.jobs]
    free = [item.units for item in order if item.job.batch_cap is None]
    assert free == sorted(free)
    assert [item.job.batch_cap is None for item in order] == sorted(
        (item.job.batch_cap is None for item in order), reverse=True
    )


def test_equal_jobs_fill_whole_batches() -> None:
    batches = form([prepared(n, 5, None) for n in range(70)], max_items=32)
    assert [len(batch.jobs) for batch in batches] == [32, 32, 6]


def test_padding_counts_against_the_unit_cap() -> None:
    batches = form([prepared(1, 1, None), prepared(2, 10, None)], max_items=32, max_units=15)
    assert [len(batch.jobs) for batch in batches] == [1, 1]


def test_a_nonsensical_cap_is_refused() -> None:
    with pytest.raises(ValueError, match="max_items"):
        form([], max_items=0)
