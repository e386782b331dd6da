"""The field where scenarios are played: one stack, one receiver, and what can be done to them."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil
import psycopg
import redis
from headrace import Client
from pydantic import SecretStr

from app.db import conservation
from app.db.engine import make_engine
from app.embedded import leftovers
from tests.chaos.load import Load
from tests.chaos.proxy import Proxy, proxy
from tests.support import stacks
from tests.support.killer import pids
from tests.support.ledger import Ledger
from tests.support.pair import Pair, pair
from tests.support.receiver import Receiver, receiver
from tests.support.stacks import RunningStack
from tests.support.waiting import wait_until

QUICK = {"HEADRACE_WORKER_LEASE_TTL_S": "5", "HEADRACE_WORKER_HEARTBEAT_S": "1"}
"""Leases that end soon, for the short form. The long one has the defaults."""

WORKERS = ("one:cpu.interactive:1", "two:cpu.interactive:1")
MODELS = f"{Path(__file__).with_name('models.py')}:Poison"
MEMORY_LIMIT_MB = 400
END_S = 120


@dataclass
class Field:
    """What a scenario may use. Nothing of it outlives the stack."""

    stack: RunningStack
    hooks: Receiver
    secret: str
    long: bool
    environ: Mapping[str, str]
    undo: contextlib.ExitStack
    pair: Pair | None = None
    """The servers that the stack has instead of a Postgres of its own."""
    guests: dict[str, "Guest"] = field(default_factory=dict)

    @property
    def lease_s(self) -> float:
        """How long a silent worker keeps its leases."""
        return float(self.environ.get("HEADRACE_WORKER_LEASE_TTL_S", 30))

    def pids(self) -> dict[str, int]:
        """The stack's processes by name."""
        return pids(self.stack)

    def wait_ready(self) -> None:
        """Wait until every process of the stack runs and the API can serve."""
        names = {"valkey", "api", "scheduler", "sender", "clerk", "worker-one", "worker-two"}
        names |= set() if self.pair else {"postgres"}
        wait_until(lambda: names <= self.pids().keys() and self.stack.is_ready(), 60, "the stack to be whole")

    def kill(self, *names: str, how: signal.Signals = signal.SIGKILL) -> list[int]:
        """Send a signal to these processes, once all of them run. Returns their ids."""

        def all_of() -> list[int] | None:
            found = self.pids()
            return [found[name] for name in names] if found.keys() >= set(names) else None

        victims = wait_until(all_of, 30, f"{', '.join(names)} to run") or []
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, how)
        return victims

    def sql(self, statement: str, *parameters: object) -> list[tuple[object, ...]]:
        """Look into the database, or do something to it, in a transaction of its own."""
        with psycopg.connect(self.stack.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement, parameters)
            return cursor.fetchall() if cursor.description else []

    def redis(self) -> "redis.Redis":
        """A client of the stack's Valkey."""
        return redis.Redis.from_url(self.stack.redis_url, socket_timeout=10)

    def guest(self) -> "Guest":
        """The worker that alone runs `poison`, behind proxies. Started when it is first asked for."""
        if "guest" not in self.guests:
            self.guests["guest"] = self.undo.enter_context(guest(self, "guest", "gpu.interactive"))
        return self.guests["guest"]

    def violations(self) -> list[str]:
        """What breaks a law that holds for all jobs there are, as sentences."""
        engine = make_engine(SecretStr(self.stack.database_url))
        try:
            found = [f"{one.id}: {one.problem}" for one in conservation.check(engine).violations]
        finally:
            engine.dispose()
        doubled = self.sql(
            "SELECT job_id FROM job_attempts WHERE outcome = 'succeeded' GROUP BY job_id HAVING count(*) > 1"
        )
        stale = self.sql(
            "SELECT r.job_id FROM job_results r WHERE r.epoch IS NOT NULL AND r.epoch <"
            " (SELECT max(a.epoch) FROM job_attempts a WHERE a.job_id = r.job_id)"
        )
        return [
            *found,
            *(f"{job_id} succeeded twice" for (job_id,) in doubled),
            *(f"{job_id} has a stale write for its result" for (job_id,) in stale),
        ]


class Fault:
    """One run of a scenario: its load, its ledger, its chance, and when the fault was over."""

    def __init__(self, field: Field, name: str, seed: int) -> None:
        self.field, self.seed = field, seed
        self.chance = random.Random(f"{name}/{seed}")
        self.run = f"{name}-{seed}-{uuid4().hex[:8]}"
        self.path = f"/{self.run}"
        self.ledger = Ledger({self.path: field.secret})
        field.hooks.answers[self.path] = self.ledger.told
        self.over_at = 0.0
        self.figures: dict[str, float] = {}

    def load(self, **options: object) -> Load:
        """Clients of this run; a context manager."""
        return Load(
            self.field.stack,
            self.ledger,
            self.run,
            **{"seed": self.seed, "hook": self.field.hooks.url(self.path), **options},  # type: ignore[arg-type]
        )

    def at(self, least: int, most: int) -> None:
        """Wait until a random number of jobs between these was promised."""
        point = self.chance.randint(least, most)
        wait_until(lambda: self.ledger.promised() >= point, 60, f"{point} jobs to be promised")

    def over(self) -> None:
        """The fault is over now, or for a kill: has happened. Recovery is measured from here."""
        self.over_at = time.monotonic()

    def recovered_s(self) -> float:
        """Wait until every job has ended and was told of. Returns the seconds from `over` until that was so
        of what was asked for before it.
        """
        wait_until(lambda: not self.ledger.open(), END_S, f"the jobs of {self.run} to end")
        last = self.ledger.told_last(self.over_at)
        return max(0.0, last - self.over_at) if last is not None else 0.0

    def judge(self) -> list[str]:
        """Every violation, once all is quiet."""
        with Client(self.field.stack.url, self.field.stack.api_key, max_retries=30) as client:
            jobs = [job.raw for job in client.jobs.list(metadata={"run": self.run})]
        return [*self.ledger.judge(jobs), *self.field.violations()]


@dataclass
class Guest:
    """A worker beside the stack's own."""

    process: subprocess.Popen[bytes]
    postgres: Proxy
    redis: Proxy

    def children(self) -> list[int]:
        """The process ids of its children."""
        return [child.pid for child in psutil.Process(self.process.pid).children()]


@contextlib.contextmanager
def guest(
    field: Field, name: str, queue: str, environ: Mapping[str, str] | None = None, skew: str | None = None
) -> Iterator[Guest]:
    """A worker of one child that reaches both servers through proxies; with `skew`, by another clock."""
    with contextlib.ExitStack() as held:
        postgres = held.enter_context(proxy(field.stack.database_url))
        valkey = held.enter_context(proxy(field.stack.redis_url))
        addresses = {
            "HEADRACE_DATABASE_URL": postgres.url(field.stack.database_url),
            "HEADRACE_REDIS_URL": valkey.url(field.stack.redis_url),
            "HEADRACE_WORKER_POOL": name,
            "HEADRACE_WORKER_MEMORY_LIMIT_MB": str(MEMORY_LIMIT_MB),
        }
        command = [sys.executable, "-m", "celery", "-A", "workers.celery_app", "worker", "-n", f"{name}@%h"]
        command += ["-Q", queue, "-c", "1", "-E", "--without-mingle", "--without-gossip"]
        process = held.enter_context(
            started(field, name, command, {**addresses, **(environ or {}), **skewed(skew)})
        )
        wait_until(
            lambda: field.sql("SELECT 1 FROM workers WHERE pool = %s AND state = 'ready'", name),
            90,
            f"the worker {name}",
        )
        yield Guest(process, postgres, valkey)


@contextlib.contextmanager
def started(
    field: Field, name: str, command: Sequence[str], environ: Mapping[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    """A process beside the stack's own, with its settings, until the end of the block."""
    root = field.stack.state_dir
    with (root / "logs" / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command,
            env={**os.environ, **field.environ, **field.stack.env, **leftovers.mark(root), **environ},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=root,
        )
        try:
            yield process
        finally:
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            for child in children:
                with contextlib.suppress(psutil.Error):
                    child.kill()


def skewed(by: str | None) -> dict[str, str]:
    """The environment of a process whose wall clock is off by so much, as `+1h`."""
    if by is None:
        return {}
    import libfaketime

    (library,) = Path(libfaketime.__file__).parent.rglob("libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME": by, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


@contextlib.contextmanager
def open_field(state_dir: Path, *, long: bool = False, paired: bool = False) -> Iterator[Field]:
    """A field on a stack of its own; `paired`: with two servers of Postgres, of which one may be lost."""
    environ = {} if long else dict(QUICK)
    with contextlib.ExitStack() as undo:
        servers = undo.enter_context(pair(state_dir.with_name("servers"))) if paired else None
        if servers:
            environ |= servers.environ()
        stack = undo.enter_context(stacks.stack(state_dir, environ=environ, workers=WORKERS, models=[MODELS]))
        hooks = undo.enter_context(receiver())
        with Client(stack.url, stack.api_key) as client:
            secret = client.webhooks.default_secret().secret
        yield Field(stack, hooks, secret, long, environ, undo, servers)
