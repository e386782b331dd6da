"""The models a child keeps: a budget, least recently used out first, failures remembered for a while."""

from dataclasses import replace
from typing import Any

import pytest

from app.domain.model import ModelSpec, ModelVersion
from tests.support.models import ECHO_SPEC
from workers.runners.cache import RETRY_LOAD_S, RunnerCache
from workers.runners.local import LoadFailed


class FakeRunner:
    """Something loaded that remembers whether it was let go."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec, self.closed = spec, False

    def close(self) -> None:
        self.closed = True


class Shelf:
    """Loads whatever is asked for, unless told to fail; time stands until moved."""

    def __init__(self) -> None:
        self.loads: list[str] = []
        self.fail = False
        self.now = 0.0
        self.resident_mb = 100.0
        self.takes_mb = 0.0

    def load(self, spec: ModelSpec) -> Any:
        self.loads.append(spec.name)
        if self.fail:
            raise LoadFailed("no weights")
        self.resident_mb += self.takes_mb
        return FakeRunner(spec)


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


@pytest.fixture
def cache(shelf: Shelf) -> RunnerCache:
    return RunnerCache(
        shelf.load, budget_mb=100, clock=lambda: shelf.now, resident_mb=lambda: shelf.resident_mb
    )


def version(number: int, memory_mb: int = 40) -> ModelVersion:
    return ModelVersion(number, replace(ECHO_SPEC, name=f"m{number}", memory_mb=memory_mb))


def test_a_loaded_model_is_loaded_once(cache: RunnerCache, shelf: Shelf) -> None:
    assert cache.get(version(1)) is cache.get(version(1))
    assert shelf.loads == ["m1"]


def test_the_least_recently_used_goes_first(cache: RunnerCache, shelf: Shelf) -> None:
    one, two = cache.get(version(1)), cache.get(version(2))
    cache.get(version(1))
    cache.get(version(3))
    assert (one.closed, two.closed) == (False, True)  # type: ignore[attr-defined]
    assert cache.status().keys() == {"m1@1", "m3@1"}


def test_a_model_over_the_budget_runs_alone(cache: RunnerCache) -> None:
    cache.get(version(1))
    cache.get(version(2, memory_mb=1000))
    assert cache.status().keys() == {"m2@1"}


def test_a_failed_load_is_shown_and_not_repeated_at_once(cache: RunnerCache, shelf: Shelf) -> None:
    shelf.fail = True
    for _ in range(2):
        with pytest.raises(LoadFailed, match="no weights"):
            cache.get(version(1))
    assert shelf.loads == ["m1"]
    assert cache.status() == {"m1@1": {"state": "failed", "error": "no weights"}}
    shelf.fail, shelf.now = False, RETRY_LOAD_S
    cache.get(version(1))
    assert cache.status() == {"m1@1": {"state": "loaded"}}


def test_other_code_behind_a_version_replaces_what_is_loaded(cache: RunnerCache) -> None:
    old = cache.get(version(1))
    new = cache.get(ModelVersion(1, replace(version(1).spec, source_sha256="other")))
    assert old is not new
    assert old.closed  # type: ignore[attr-defined]


def test_what_loading_took_counts_when_it_is_more_than_was_declared(cache: RunnerCache, shelf: Shelf) -> None:
    one = cache.get(version(1))
    shelf.takes_mb = 70.0
    assert cache.fits(version(2))
    two = cache.get(version(2))
    assert (one.closed, two.closed) == (True, False)
    assert not cache.fits(version(3))
    assert cache.fits(version(3, memory_mb=30))
