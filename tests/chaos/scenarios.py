"""The faults. Each one plays its load, does its harm, and says when the harm was over."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import psutil
import psycopg
import redis
from pydantic import SecretStr

from app.broker.celery import make_celery
from app.broker.message import BellMessages
from app.broker.ring import doorbell_for
from app.db import models
from app.db.engine import make_engine
from app.domain.lanes import Lane
from app.domain.stages import BatchBell, DeliveryBell, Doorbell
from tests.chaos.field import Fault, guest
from tests.chaos.gate import gate
from tests.chaos.load import slow
from tests.support.waiting import wait_until


@dataclass(frozen=True)
class Scenario:
    """A fault and what is promised in spite of it."""

    name: str
    fault: str
    promise: str
    bound_s: float
    """Most seconds of recovery, at the 99th percentile."""
    play: Callable[[Fault], None]
    short: bool = True
    """Whether `make test` plays it, too: not if another one that it plays is nearly the same."""
    paired: bool = False
    """Whether it needs a field with two servers of Postgres."""
    alone: bool = False
    """Whether it promises a speed, which nobody can judge beside other stacks."""


SCENARIOS: list[Scenario] = []

_AFTER_KILL_S, _AFTER_REDIS_S, _AFTER_POSTGRES_S = 45, 60, 30
_NEXT_CHILD_S = 4
_NO_LOSS = "No job is lost or doubled, and every end is told of"


def scenario(
    fault: str,
    *,
    bound_s: float = _AFTER_KILL_S,
    promise: str = _NO_LOSS,
    short: bool = True,
    paired: bool = False,
    alone: bool = False,
) -> Callable[..., None]:
    """Put a function among the scenarios, under its own name."""

    def add(play: Callable[[Fault], None]) -> None:
        SCENARIOS.append(Scenario(play.__name__, fault, promise, bound_s, play, short, paired, alone))

    return add


@contextlib.contextmanager
def again_and_again(every_s: float, do: Callable[[], object]) -> Iterator[None]:
    """Do it from now until the end of the block."""
    stopped = threading.Event()

    def run() -> None:
        while not stopped.wait(every_s):
            with contextlib.suppress(redis.RedisError, psycopg.Error, OSError):
                do()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join(10)


# The API


@scenario("API killed -9 before its commit", promise="The client's repetition makes one job")
def api_before_commit(fault: Fault) -> None:
    with fault.load():
        fault.at(10, 40)
        with gate(fault.field.stack.database_url, "job_ready") as standing:
            backends = standing()
            fault.field.kill("api")
            fault.over()
            # What Postgres does once it sees that its client is gone, which it does not while it waits.
            for backend in backends:
                fault.field.sql("SELECT pg_terminate_backend(%s)", backend)


@scenario("API killed -9 after its commit, before the bell", promise="The job runs, though nobody rang")
def api_before_bell(fault: Fault) -> None:
    with fault.load():
        fault.at(10, 40)
        with fault.field.redis() as valkey:
            valkey.execute_command("CLIENT PAUSE", 1500, "ALL")
        # Whoever is answered in this time rings in vain: the kill comes while one waits for its bell.
        before = fault.ledger.promised()
        wait_until(
            lambda: fault.field.sql(
                "SELECT count(*) > %s FROM jobs WHERE metadata->>'run' = %s", before, fault.run
            )[0][0],
            5,
            "a commit without an answer",
        )
        fault.field.kill("api")
        fault.over()


# Workers, scheduler, sender


@scenario("Worker's child killed -9 in the middle of a micro-batch", short=False)
def child_killed(fault: Fault) -> None:
    with fault.load(make_input=slow):
        fault.at(10, 40)
        _while_busy(fault)
        fault.field.kill("worker-one/child-1", "worker-two/child-1")
        fault.over()


@scenario("Worker killed -9 with its child, in the middle of a micro-batch")
def worker_killed(fault: Fault) -> None:
    with fault.load(make_input=slow):
        fault.at(10, 40)
        _while_busy(fault)
        fault.field.kill("worker-one", "worker-one/child-1")
        fault.over()


@scenario("Child killed -9 while its results are being committed")
def child_killed_settling(fault: Fault) -> None:
    with fault.load():
        fault.at(10, 40)
        with gate(fault.field.stack.database_url, "job_results") as standing:
            standing()
            fault.field.kill("worker-one/child-1", "worker-two/child-1")
            fault.over()


@scenario("Scheduler killed -9")
def scheduler_killed(fault: Fault) -> None:
    with fault.load():
        fault.at(10, 40)
        fault.field.kill("scheduler")
        fault.over()


@scenario("Webhook sender killed -9 with its child")
def sender_killed(fault: Fault) -> None:
    with fault.load():
        fault.at(10, 40)
        fault.field.kill("sender", "sender/child-1")
        fault.over()


@scenario(
    "Children stopped (SIGSTOP) until their leases were taken, then continued",
    promise="Who lost its lease writes nothing",
)
def zombies(fault: Fault) -> None:
    names = ("worker-one/child-1", "worker-two/child-1")
    with fault.load(make_input=lambda n, _: {"n": n, "sleep_ms": 20 if n else 1500}, count=30):
        _while_busy(fault)
        stopped = fault.field.kill(*names, how=signal.SIGSTOP)
        try:
            wait_until(
                lambda: fault.field.sql(
                    "SELECT 1 FROM workers WHERE pid = ANY (%s) AND state = 'dead' AND cause = 'lost'",
                    stopped,
                ),
                fault.field.lease_s * 2 + 10,
                "the leases to be taken",
            )
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)
            fault.over()


def _while_busy(fault: Fault) -> None:
    wait_until(
        lambda: fault.field.sql(
            "SELECT 1 FROM job_leases l JOIN jobs j ON j.id = l.job_id WHERE j.metadata->>'run' = %s LIMIT 1",
            fault.run,
        ),
        30,
        "a job to run",
    )


@scenario(
    "Every process of ours restarted, one after the other, under load",
    promise="No request fails, and no job is lost or doubled",
)
def rolled(fault: Fault) -> None:
    field = fault.field
    with fault.load(count=10**6, pace_s=0.02) as load:
        fault.at(10, 20)
        for name in ("scheduler", "clerk", "sender", "worker-one", "worker-two"):
            (before,) = field.kill(name, how=signal.SIGTERM)
            whole = {name} if name == "scheduler" else {name, f"{name}/child-1"}
            wait_until(
                lambda whole=whole, name=name, before=before: (
                    whole <= field.pids().keys() and field.pids()[name] != before
                ),
                60,
                f"another {name}",
            )
        served = set(_children(field.pids()["api"]))
        (api,) = field.kill("api", how=signal.SIGHUP)
        wait_until(lambda: not served & set(_children(api)), 60, "other processes to serve")
        promised = fault.ledger.promised()
        wait_until(lambda: fault.ledger.promised() > promised + 20, 30, "requests after all that")
        fault.over()
        load.stop()
    failed = [answer for answer in load.answers if answer.status not in (202, 400, 422)]
    assert not failed, f"of {len(load.answers)} requests some failed: {failed}"
    fault.figures["requests"] = len(load.answers)


def _children(pid: int) -> list[int]:
    return [child.pid for child in psutil.Process(pid).children()]


# Redis

LONG_AWAY_S = 120.0


@scenario("Redis killed -9; it forgets everything", bound_s=_AFTER_REDIS_S, short=False)
def redis_killed(fault: Fault) -> None:
    with fault.load():
        fault.at(10, 40)
        (before,) = fault.field.kill("valkey")
        wait_until(lambda: fault.field.pids().get("valkey") not in (None, before), 30, "Redis to come back")
        fault.over()


@scenario(
    "Redis stopped for a while under load (2 minutes in the first run)",
    bound_s=_AFTER_REDIS_S,
    promise="Every submit answers 202, in less than twice the time; jobs run on",
    alone=True,
)
def redis_away(fault: Fault) -> None:
    away_s = (LONG_AWAY_S if fault.seed == 1 else 10.0) if fault.field.long else 1.5
    # Long enough for as long a time before it.
    with fault.load(count=10**6, pace_s=0.02) as load:
        began = time.monotonic()
        _pass(min(away_s, 10.0))
        gone = time.monotonic()
        fault.field.kill("valkey", how=signal.SIGSTOP)
        try:
            _pass(away_s)
            ended = _ended(fault)
            wait_until(lambda: _ended(fault) > ended, 20, "a job to end while Redis is away")
        finally:
            fault.field.kill("valkey", how=signal.SIGCONT)
            fault.over()
        load.stop()
    during = [answer for answer in load.answers if gone <= answer.at < fault.over_at]
    refused = {answer.status for answer in during} - {202, 400, 422}
    assert not refused, f"submits without Redis were answered {refused}"
    fault.figures["p99_before_ms"] = before = load.p99_ms(began, gone)
    fault.figures["p99_during_ms"] = load.p99_ms(gone, fault.over_at)
    fault.figures["away_s"] = away_s
    # A shorter time is too short for a percentile.
    if away_s >= LONG_AWAY_S:
        assert fault.figures["p99_during_ms"] < 2 * before, "submits took too long without Redis"


def _ended(fault: Fault) -> int:
    (row,) = fault.field.sql("SELECT count(*) FROM job_results")
    return int(str(row[0]))


def _pass(seconds: float) -> None:
    """A fault takes time: this is its length, and nothing is awaited."""
    threading.Event().wait(seconds)


@scenario("FLUSHALL every 200 ms", bound_s=_AFTER_REDIS_S)
def redis_flushed(fault: Fault) -> None:
    with fault.field.redis() as valkey, fault.load(), again_and_again(0.2, valkey.flushall):
        fault.at(30, 50)
        fault.over()


@scenario("CLIENT PAUSE for 1.5 s, twice", bound_s=_AFTER_REDIS_S, short=False)
def redis_paused(fault: Fault) -> None:
    with fault.load():
        for least in (10, 30):
            fault.at(least, least + 10)
            with fault.field.redis() as valkey:
                valkey.execute_command("CLIENT PAUSE", 1500, "ALL")
        fault.over()


@scenario("A worker's connections to Redis stay open, and nothing comes through", bound_s=_AFTER_REDIS_S)
def redis_half_open(fault: Fault) -> None:
    away = fault.field.guest()
    with fault.load(model="poison", make_input=lambda n, _: {"n": n}):
        fault.at(5, 20)
        away.redis.open_hole()
        try:
            fault.at(40, 55)
            wait_until(lambda: len(fault.ledger.open()) < 15, 30, "the worker to go on without Redis")
        finally:
            away.redis.close_hole()
        fault.over()


@scenario(
    "Each bell sent 100 times, and forged ones", promise="Bells change nothing but how soon work begins"
)
def bells_multiplied(fault: Fault) -> None:
    stack = fault.field.stack
    engine = make_engine(SecretStr(stack.database_url))
    version = models.find(engine, "echo", None)
    engine.dispose()
    assert version
    forged = Doorbell(999_999, "nobody", "1", version.spec.device, Lane.INTERACTIVE, 60.0)
    messages = BellMessages(make_celery(SecretStr(stack.redis_url)))
    bells = [doorbell_for(version, Lane.INTERACTIVE), DeliveryBell(), BatchBell(), forged]
    with fault.load(), fault.field.redis() as valkey:
        fault.at(5, 10)
        for bell in bells:
            valkey.lpush(bell.queue, *(messages.encode(bell, 30) for _ in range(100)))
        fault.over()


# Postgres


@scenario("Postgres stopped in immediate mode (SIGQUIT), then started", bound_s=_AFTER_POSTGRES_S)
def postgres_crash(fault: Fault) -> None:
    with fault.load():
        fault.at(10, 40)
        fault.field.kill("postgres", how=signal.SIGQUIT)
        wait_until(lambda: fault.field.sql("SELECT 1"), 60, "Postgres to come back")
        fault.over()


@scenario(
    "Postgres killed -9 for good; its synchronous standby is promoted", bound_s=_AFTER_POSTGRES_S, paired=True
)
def postgres_failed_over(fault: Fault) -> None:
    assert fault.field.pair
    with fault.load():
        fault.at(10, 40)
        fault.field.pair.fail_over()
        fault.over()
    fault.field.pair.follow()


@scenario("Every connection to Postgres ended, once a second", bound_s=_AFTER_POSTGRES_S)
def connections_ended(fault: Fault) -> None:
    def end_all() -> None:
        fault.field.sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )

    with fault.load(count=100):
        with again_and_again(1.0, end_all):
            fault.at(60, 90)
        fault.over()


@scenario(
    "A worker cut off from Postgres in the middle of a micro-batch",
    promise="It stops before its lease ends, by its own clock",
)
def worker_cut_off(fault: Fault) -> None:
    away = fault.field.guest()
    wall = fault.field.stack.state_dir / f"{fault.run}.go"
    with fault.load(model="poison", make_input=lambda n, _: {"n": n, "until": str(wall)}, count=8):
        _while_busy(fault)
        (child,) = away.children()
        # The lease lives from the last heartbeat, which was before this moment.
        cut_at = time.monotonic()
        away.postgres.open_hole()
        try:
            wait_until(lambda: _gone(child), fault.field.lease_s + 20, "the child to stop")
            fault.figures["stopped_after_s"] = time.monotonic() - cut_at
        finally:
            wall.touch()
            away.postgres.close_hole()
            fault.over()
    assert fault.figures["stopped_after_s"] < fault.field.lease_s, "it worked on when its lease was over"


def _gone(pid: int) -> bool:
    """Whether it ended, though its parent may not have noticed yet."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@scenario(
    "A transaction left open, so that no dead row can be removed",
    bound_s=_AFTER_POSTGRES_S,
    promise="Claims take no longer",
)
def idle_reader(fault: Fault) -> None:
    count = 3000 if fault.field.long else 600
    with psycopg.connect(fault.field.stack.database_url) as reader:
        reader.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        reader.execute("SELECT count(*) FROM jobs")
        with fault.load(count=count, pace_s=0.0, clients=8, make_input=lambda n, _: {"n": n}):
            start = _claims(fault)
            fault.at(count // 4, count // 4)
            early = _claims(fault)
            fault.at(count // 2, count // 2)
            middle = _claims(fault)
        wait_until(lambda: not fault.ledger.open(), 60, "every job to end")
        late = _claims(fault)
        fault.over()
    fault.figures["claim_ms_first"] = first = _mean_ms(start, early)
    fault.figures["claim_ms_last"] = last = _mean_ms(middle, late)
    assert last < 3 * first + 5, f"a claim took {first:.1f} ms at first, and {last:.1f} ms at last"


def _claims(fault: Fault) -> tuple[float, float]:
    """Seconds that claims took so far, and how many there were."""
    told = dict(
        line.rsplit(" ", 1) for line in fault.field.stack.request("GET", "/metrics").text.splitlines()
    )
    return float(told["headrace_claim_seconds_sum"]), float(told["headrace_claim_seconds_count"])


def _mean_ms(before: tuple[float, float], after: tuple[float, float]) -> float:
    return 1000 * (after[0] - before[0]) / max(1.0, after[1] - before[1])


# Clocks, poison


@scenario("Workers whose clocks are an hour ahead and an hour behind", promise="Only Postgres's clock counts")
def clocks_skewed(fault: Fault) -> None:
    by = fault.chance.choice(["+1h", "-1h"])
    with guest(fault.field, "skewed", "cpu.interactive", skew=by):
        # Who takes what is chance, so there is work until each has had some of it.
        with fault.load(make_input=slow, count=2000, pace_s=0.05) as load:
            fault.at(10, 20)
            fault.over()
            wait_until(lambda: _works(fault, "skewed"), 60, f"work of the worker whose clock is off by {by}")
            load.stop()
        wait_until(lambda: not fault.ledger.open(), 60, "every job to end")


def _works(fault: Fault, pool: str) -> bool:
    """Whether a job of this run ran there."""
    found = fault.field.sql(
        "SELECT 1 FROM job_attempts a JOIN jobs j ON j.id = a.job_id"
        " WHERE a.pool = %s AND j.metadata->>'run' = %s LIMIT 1",
        pool,
        fault.run,
    )
    return bool(found)


POISON = ("abort", "segfault", "memory bomb", "endless loop", "holds the GIL")


@scenario(
    "Inputs that abort, segfault, eat all memory, never end, or hold the GIL",
    # Five of them, and each may end its process three times, one after the other.
    bound_s=15 * _NEXT_CHILD_S,
    promise="They fail alone; what was beside them succeeds",
)
def poison(fault: Fault) -> None:
    fault.field.guest()
    count = 12
    kinds = POISON if fault.field.long else ("memory bomb", "holds the GIL")
    where = dict(zip(fault.chance.sample(range(count), len(kinds)), kinds, strict=True))
    with fault.load(
        model="poison",
        make_input=lambda n, _: {"n": n, "how": where[n]} if n in where else {"n": n},
        count=count,
        pace_s=0.0,
        policy={"execution_timeout_s": 1},
    ):
        fault.over()
