"""Public ids."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.ids import InvalidId, boundary, format_id, new_uuid, parse_id


def test_ids_come_back_as_they_were() -> None:
    value = new_uuid()
    assert parse_id("job", format_id("job", value)) == value


@given(st.text(max_size=60))
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(InvalidId):
        parse_id("job", text)


@pytest.mark.parametrize(
    "text", ["job_" + "A" * 32, "file_" + "0" * 32, "job_" + "0" * 31, "job_" + "٠" * 32]
)
def test_near_misses_are_refused(text: str) -> None:
    with pytest.raises(InvalidId):
        parse_id("job", text)


def test_a_boundary_parts_ids_by_time() -> None:
    value, now = new_uuid(), datetime.now(UTC)
    assert boundary(now - timedelta(seconds=5)) < value < boundary(now + timedelta(seconds=5))
