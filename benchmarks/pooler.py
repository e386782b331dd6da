"""What `pooler=transaction` costs, which prepares no statement: CPU time of Postgres, against prepared ones.

`python -m benchmarks.pooler`. No PgBouncer runs: its own work comes on top.
"""

import logging
import tempfile
import time
from pathlib import Path

import psutil
import structlog

from app.db.migrate import upgrade
from tests.support import servers
from tests.support.jobs import Queue, succeeded
from workers.settle import settle

JOBS = 2000
WINDOW = 8
MODES = {"prepared": "", "pooler=transaction": "?pooler=transaction"}


def backends_cpu_s(queue: Queue) -> float:
    """What all backends of this queue's database have used so far, in seconds."""
    rows = queue.execute("SELECT pid FROM pg_stat_activity WHERE datname = current_database()")
    times = [psutil.Process(row[0]).cpu_times() for row in rows]
    return sum(each.user + each.system for each in times)


def _measured(url: str) -> tuple[float, float, float]:
    """CPU in microseconds: Postgres an accept, Postgres a window claimed and settled, this process a job."""
    queue = Queue.open(url)
    worker = queue.worker()
    for _ in range(40):
        queue.submit()
        settle(queue.engine, worker, [succeeded(job) for job in queue.claim(worker)])
    began, own = backends_cpu_s(queue), time.process_time()
    for _ in range(JOBS):
        queue.submit()
    accepted = backends_cpu_s(queue)
    while jobs := queue.claim(worker, WINDOW):
        settle(queue.engine, worker, [succeeded(job) for job in jobs])
    ended, own = backends_cpu_s(queue), time.process_time() - own
    queue.engine.dispose()
    windows = JOBS / WINDOW
    return (accepted - began) / JOBS * 1e6, (ended - accepted) / windows * 1e6, own / JOBS * 1e6


def main() -> None:
    """Three rounds, each mode in turn."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder, servers.postgres(Path(folder)) as server:
        server.execute("CREATE DATABASE migrated")
        upgrade(server.url("migrated"))
        for _ in range(3):
            for name, suffix in MODES.items():
                with server.database("migrated") as url:
                    accept, window, own = _measured(url + suffix)
                print(f"{name}: accept {accept:.0f} us, {WINDOW} jobs {window:.0f} us, client {own:.0f} us")


if __name__ == "__main__":
    main()
