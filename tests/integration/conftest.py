"""Fixtures for tests of the queue itself, below the HTTP edge."""

from collections.abc import Iterator

import pytest

from tests.support.jobs import Queue


@pytest.fixture
def queue(database_url: str) -> Iterator[Queue]:
    """A migrated database of this test alone, with one tenant and `echo`."""
    opened = Queue.open(database_url)
    yield opened
    opened.engine.dispose()
