"""Fixtures for tests of the queue itself, below the HTTP edge."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.bulk import Bulk
from tests.support.jobs import Queue


@pytest.fixture
def queue(database_url: str) -> Iterator[Queue]:
    """A migrated database of this test alone, with one tenant and `echo`."""
    opened = Queue.open(database_url)
    yield opened
    opened.engine.dispose()


@pytest.fixture
def bulk(database_url: str, redis_url: str, tmp_path: Path) -> Iterator[Bulk]:
    """A tenant with batches, and the clerk that keeps their books."""
    opened = Bulk.open(database_url, redis_url, tmp_path / "storage")
    yield opened
    opened.close()
