"""The models a child keeps loaded: least recently used out first, under a memory budget."""

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from app.domain.cost import Work
from app.domain.model import ModelSpec, ModelVersion
from workers.runners.base import Runner
from workers.runners.local import LoadFailed
from workers.runners.memory import resident_mb

RETRY_LOAD_S = 5.0
"""A model that failed to load is not tried again sooner: loading may be slow, and others wait."""


class RunnerCache:
    """Loads on demand. A failed load is remembered for a while and shown by `status()`."""

    def __init__(
        self,
        load: Callable[[ModelSpec], Runner],
        budget_mb: int,
        clock: Callable[[], float] = time.monotonic,
        resident_mb: Callable[[], float] = resident_mb,
    ) -> None:
        self._load = load
        self._budget_mb = budget_mb
        self._clock = clock
        self._resident_mb = resident_mb
        self._costs: dict[int, float] = {}
        self._loaded: OrderedDict[int, Runner] = OrderedDict()
        self._failed: dict[int, tuple[ModelSpec, LoadFailed, float]] = {}
        self._told: dict[int, tuple[Runner, Work]] = {}

    def get(self, version: ModelVersion) -> Runner:
        """The loaded version. Raises `LoadFailed`."""
        runner = self._loaded.get(version.id)
        if runner is not None and runner.spec == version.spec:
            self._loaded.move_to_end(version.id)
            return runner
        failure = self._failed.get(version.id)
        if failure is not None and self._clock() < failure[2]:
            raise failure[1].with_traceback(None)
        stale = self._loaded.pop(version.id, None)
        if stale is not None:
            stale.close()
        self._make_room(version.spec.memory_mb)
        before = self._resident_mb()
        try:
            runner = self._load(version.spec)
        except LoadFailed as error:
            self._failed[version.id] = (version.spec, error, self._clock() + RETRY_LOAD_S)
            raise
        self._failed.pop(version.id, None)
        # What the class declares is a guess, and what loading took is the least that it takes.
        cost = max(version.spec.memory_mb, self._resident_mb() - before)
        self._make_room(cost)
        self._loaded[version.id] = runner
        self._costs[version.id] = cost
        return runner

    def fits(self, version: ModelVersion) -> bool:
        """Whether it can be loaded beside what is loaded, going by what its class declares."""
        return self._used() + version.spec.memory_mb <= self._budget_mb

    def status(self) -> dict[str, Any]:
        """`{"minilm@1": {"state": "loaded"}, "broken@1": {"state": "failed", "error": …}}`."""
        # Copies: the heartbeat reads this while the child's main thread loads and drops models.
        loaded = {_label(runner.spec): {"state": "loaded"} for runner in list(self._loaded.values())}
        failed = {
            _label(spec): {"state": "failed", "error": str(error)[:500]}
            for spec, error, _ in list(self._failed.values())
        }
        return {**loaded, **failed}

    def worked(self) -> dict[int, Work]:
        """By version id, what the loaded runners worked off since the last call."""
        fresh: dict[int, Work] = {}
        told: dict[int, tuple[Runner, Work]] = {}
        for version_id, runner in list(self._loaded.items()):
            total = runner.costs.work
            known = self._told.get(version_id)
            # A version that was dropped and loaded again starts counting anew.
            before = known[1] if known and known[0] is runner else Work()
            told[version_id] = (runner, total)
            if total.jobs > before.jobs:
                fresh[version_id] = total.since(before)
        self._told = told
        return fresh

    def _make_room(self, needed_mb: float) -> None:
        while self._loaded and self._used() + needed_mb > self._budget_mb:
            _, oldest = self._loaded.popitem(last=False)
            oldest.close()

    def _used(self) -> float:
        return sum(self._costs[id] for id in self._loaded)


def _label(spec: ModelSpec) -> str:
    return f"{spec.name}@{spec.version}"
