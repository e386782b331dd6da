"""One tick of scaling: look, decide, act, write down. Idempotent, and harmless when repeated."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from app.db import pools as sql
from app.db import upkeep
from app.db.engine import Engine
from app.db.pools import PoolState
from app.domain.pools import Pool
from app.domain.scaling import Backlog, Decision, Fleet, Past, Seen, Steps, decide, steps
from app.errors import Unavailable
from app.observability import metrics
from workers.scaling.executor import Executor, ExecutorError, MachineState

log = structlog.get_logger()

# Any fixed number; it names "the scaler of Headrace" among the advisory locks of this database.
LOCK = 0x48455343


class Scaler:
    """Scales every pool while it holds the lock. What it remembers between ticks can be lost without harm."""

    def __init__(
        self,
        engine: Engine,
        pools: Sequence[Pool],
        executors: Mapping[str, Executor],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._engine = engine
        self._pools = pools
        self._executors = executors
        self._clock = clock
        self._past: Mapping[str, Past] = {}
        self._failing: set[str] = set()

    def run(self, stop: threading.Event, tick_s: float) -> None:
        """Until `stop` is set. Postgres being away is logged once, and waited out."""
        away = False
        while not stop.is_set():
            try:
                self.tick()
                away = False
            except Unavailable as error:
                if not away:
                    log.warning("scaler.database_away", reason=str(error))
                away = True
            except Exception:
                log.exception("scaler.failed")
            stop.wait(tick_s)

    def tick(self) -> dict[str, Decision]:
        """One round. Returns the decisions by pool; none without the lock."""
        with upkeep.only_one(self._engine, LOCK) as ours:
            if not ours:
                # Another one scales now, and what we remember gets old.
                self._past = {}
                return {}
            return self._scale()

    def _scale(self) -> dict[str, Decision]:
        backlogs = sql.backlogs(self._engine)
        seen = self._look()
        fleets = {name: _fleet(machines) for name, machines in seen.items()}
        # A pool that can't be looked at is not decided on: nothing is known of what it will bring.
        reachable = [pool for pool in self._pools if pool.name in seen]
        plan = decide(reachable, backlogs, fleets, self._past, self._clock())
        self._past = plan.past
        for pool in reachable:
            decision, machines = plan.decisions[pool.name], seen[pool.name]
            todo = steps(decision.desired, machines)
            self._act(pool, decision, todo, machines)
            self._write_down(pool, decision, todo, fleets[pool.name], backlogs)
        return dict(plan.decisions)

    def _look(self) -> dict[str, list[Seen]]:
        """By pool, its machines that are not stopping."""
        rows = {(row.pool, row.id): row for row in sql.machines(self._engine, list(self._executors))}
        seen: dict[str, list[Seen]] = {}
        for pool in self._pools:
            try:
                machines = self._executors[pool.name].machines()
            except ExecutorError as error:
                self._fails(pool, error)
                continue
            self._works(pool)
            seen[pool.name] = []
            for machine in machines:
                if machine.state is MachineState.STOPPING:
                    continue
                row = rows.get((pool.name, machine.id))
                seen[pool.name].append(
                    Seen(machine.id, True, row.draining, row.leases) if row else Seen(machine.id, False)
                )
        return seen

    def _act(self, pool: Pool, decision: Decision, todo: Steps, machines: Sequence[Seen]) -> None:
        executor = self._executors[pool.name]
        try:
            executor.protect({machine.id for machine in machines} - set(todo.retire))
            if todo.drain:
                sql.drain(self._engine, pool.name, todo.drain)
            if todo.retire:
                executor.retire(todo.retire)
            if todo.grow:
                executor.grow(todo.grow)
        except ExecutorError as error:
            self._fails(pool, error)
        if todo.grow or todo.drain or todo.retire:
            log.info(
                "scaler.scales",
                pool=pool.name,
                desired=decision.desired,
                reason=decision.reason,
                grow=todo.grow,
                drain=len(todo.drain),
                retire=len(todo.retire),
            )

    def _write_down(
        self, pool: Pool, decision: Decision, todo: Steps, fleet: Fleet, backlogs: Mapping[str, Backlog]
    ) -> None:
        held = [backlogs[queue] for queue in pool.queues if queue in backlogs]
        state = PoolState(
            pool=pool.name,
            desired=decision.desired,
            reason=decision.reason,
            running=fleet.running,
            starting=fleet.starting,
            draining=todo.kept,
            backlog_s=sum(backlog.work_s for backlog in held),
        )
        # After the executor marked what may go: an autoscaler that asks takes away what is missing here.
        sql.note(self._engine, state)
        for what, count in (
            ("desired", state.desired),
            ("running", state.running),
            ("starting", state.starting),
            ("draining", state.draining),
        ):
            metrics.POOL_MACHINES.labels(pool.name, what).set(count)
        metrics.POOL_BACKLOG.labels(pool.name).set(state.backlog_s)
        try:
            self._executors[pool.name].report(state)
        except ExecutorError as error:
            self._fails(pool, error)

    def _fails(self, pool: Pool, error: ExecutorError) -> None:
        if pool.name not in self._failing:
            log.warning("scaler.executor_failed", pool=pool.name, reason=str(error))
        self._failing.add(pool.name)

    def _works(self, pool: Pool) -> None:
        self._failing.discard(pool.name)


def _fleet(machines: Sequence[Seen]) -> Fleet:
    staying = [machine for machine in machines if not machine.draining]
    running = sum(machine.working for machine in staying)
    return Fleet(running, len(staying) - running)
