"""The programs of Headrace itself: API, workers, webhook sender, clerk, scheduler and Flower."""

import re
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from app.cores import cores
from app.domain.lanes import Device, Lane, parse_queue, queue_name
from app.domain.pools import Pool
from app.domain.stages import BatchBell, DeliveryBell
from app.embedded.errors import StackError
from app.embedded.ports import LOOPBACK
from app.embedded.program import Program

FLOWER_USER = "headrace"

_CELERY = (sys.executable, "-m", "celery", "-A", "workers.celery_app")
_SENDER = (sys.executable, "-m", "celery", "-A", "workers.webhooks.celery_app")
_CLERK = (sys.executable, "-m", "celery", "-A", "workers.bulk.celery_app")
_STOP_WAIT_S = 20
"""Seconds that a worker has from a SIGTERM to its end."""
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}")


@dataclass(frozen=True)
class Worker:
    """One Celery worker: its pool's name, the queues it serves, and how many children it has."""

    name: str
    queues: tuple[str, ...]
    slots: int = 1

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `NAME:QUEUES[:SLOTS]`, as in `fast:cpu.interactive,cpu.batch:4`."""
        name, _, rest = text.partition(":")
        queues, _, slots = rest.partition(":")
        try:
            if not _NAME.fullmatch(name):
                raise ValueError(f"{name!r} is not a name of lower case letters, digits and dashes")
            for queue in queues.split(","):
                parse_queue(queue)
            if slots and int(slots) < 1:
                raise ValueError("a worker has at least one slot")
        except ValueError as error:
            raise StackError(f"--worker {text}: {error}") from None
        return cls(name, tuple(queues.split(",")), int(slots or 1))

    @property
    def process(self) -> str:
        """Its process's name."""
        return self.name if self in OWN else f"worker-{self.name}"


SENDER = Worker("sender", (DeliveryBell.queue,))
CLERK = Worker("clerk", (BatchBell.queue,))
OWN = (SENDER, CLERK)
"""Workers that run no models. Every stack has them, and their names are taken."""


def default_workers() -> list[Worker]:
    """One worker for each lane, so that bulk never stands in the way of someone who waits."""
    return [
        Worker("interactive", (queue_name(Device.CPU, Lane.INTERACTIVE),), cores()),
        Worker("batch", (queue_name(Device.CPU, Lane.BATCH),), cores()),
    ]


def api(port: int) -> Program:
    """The HTTP edge."""
    command = [sys.executable, "-m", "gunicorn", "-c", "python:app.gunicorn_conf"]
    command += ["--bind", f"{LOOPBACK}:{port}", "app.wsgi:application"]
    return Program("api", command, stop_wait_s=15)


def worker(spec: Worker) -> Program:
    """A Celery worker, which finishes what it holds when asked to stop."""
    return _celery_worker(_CELERY, spec, {})


def machines(pool: Pool) -> list[Program]:
    """As many processes as the pool may have. The scaler starts and stops them."""
    programs = []
    for number in range(1, pool.max + 1):
        machine = f"{pool.name}-{number}"
        own = {
            "HEADRACE_WORKER_POOL": pool.name,
            "HEADRACE_WORKER_PURCHASE": pool.purchase,
            "HEADRACE_WORKER_MACHINE": machine,
        }
        program = _celery_worker(_CELERY, Worker(machine, pool.queues, pool.slots), own)
        # Only one that holds no lease is stopped, but it may have claimed at this very moment.
        programs.append(replace(program, machine=True, stop_wait_s=90))
    return programs


def scaler(state_dir: Path) -> Program:
    """Starts and stops the processes of pools."""
    environment = {"HEADRACE_SCALING_STATE_DIR": str(state_dir)}
    return Program("scaler", [sys.executable, "-m", "workers.scaling"], environment)


def sender(api_url: str) -> Program:
    """The Celery worker that sends webhooks. Bodies name URLs of the API, which it has to be told."""
    return _celery_worker(_SENDER, SENDER, {"HEADRACE_API_PUBLIC_URL": api_url})


def clerk() -> Program:
    """The Celery worker that keeps the books of batches."""
    return _celery_worker(_CLERK, CLERK, {})


def _celery_worker(celery: tuple[str, ...], spec: Worker, environment: dict[str, str]) -> Program:
    command = [*celery, "worker", "-n", f"{spec.name}@%h", "-Q", ",".join(spec.queues)]
    command += ["-c", str(spec.slots), "-E", "--loglevel", "INFO"]
    command += ["--without-mingle", "--without-gossip"]
    environment = {
        "HEADRACE_WORKER_POOL": spec.name,
        "HEADRACE_WORKER_DRAIN_S": str(_STOP_WAIT_S),
        **environment,
    }
    return Program(spec.process, command, environment, stop_wait_s=_STOP_WAIT_S)


def scheduler() -> Program:
    """Periodic work: rescue, promote, expire, sweep, measure, prune."""
    return Program("scheduler", [sys.executable, "-m", "workers.maintenance"])


def flower(port: int, login: str) -> Program:
    """Celery's monitor. Its login comes by environment: arguments can be read by everybody."""
    environment = {
        "FLOWER_BASIC_AUTH": login,
        "FLOWER_MAX_TASKS": "10000",
        "FLOWER_PERSISTENT": "false",
    }
    command = [*_CELERY, "flower", f"--address={LOOPBACK}", f"--port={port}"]
    return Program("flower", command, environment)
