"""Whether this process can do its work now, found out within a bounded time whatever hangs."""

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass

from app.broker.ring import Ringer
from app.db import health
from app.db.engine import Engine
from app.errors import Unavailable

PATIENCE_S = 2.0
"""How long a check may take before its service counts as gone."""
_REMEMBER_S = 0.5


@dataclass(frozen=True, slots=True)
class Report:
    """What was found; a reason is None when all is well."""

    postgres: str | None
    redis: str | None

    @property
    def ready(self) -> bool:
        """Without Redis jobs are still accepted, and found by the sweep: slower, but ready."""
        return self.postgres is None


class Readiness:
    """Checks Postgres and Redis. A check that hangs is left hanging, and counts as failed meanwhile."""

    def __init__(self, engine: Engine, ringer: Ringer, clock: Callable[[], float] = time.monotonic) -> None:
        self._checks: dict[str, Callable[[], str | None]] = {
            "postgres": lambda: _postgres(engine),
            "redis": lambda: (
                None
                if ringer.reachable()
                else "not reachable, or it takes no writes: jobs start later than usual"
            ),
        }
        self._clock = clock
        self._lock = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._running: dict[str, Future[str | None]] = {}
        self._found_at = float("-inf")
        self._found = Report(None, None)

    def report(self) -> Report:
        """The state now, at most half a second old, within `PATIENCE_S`."""
        with self._lock:
            if self._clock() - self._found_at < _REMEMBER_S:
                return self._found
            pool = self._pool = self._pool or ThreadPoolExecutor(len(self._checks), "readiness")
            for name, check in self._checks.items():
                if name not in self._running:
                    self._running[name] = pool.submit(check)
            deadline = time.monotonic() + PATIENCE_S
            self._found = Report(*(self._result(name, deadline) for name in ("postgres", "redis")))
            self._found_at = self._clock()
            return self._found

    def _result(self, name: str, deadline: float) -> str | None:
        try:
            reason = self._running[name].result(max(0.0, deadline - time.monotonic()))
        except FutureTimeout:
            return f"no answer within {PATIENCE_S:g} s"
        del self._running[name]
        return reason


def _postgres(engine: Engine) -> str | None:
    try:
        return health.trouble(engine)
    except Unavailable as error:
        return str(error)
    except Exception as error:
        return f"failed with {type(error).__name__}"
