"""What row-level security costs the API: CPU of Postgres and of the API's process, against the tables' owner.

`python -m benchmarks.row_security`. The same statements by both roles, in turn, on one server.
"""

import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import structlog
from pydantic import SecretStr

from app.db import accept, jobs
from app.db.engine import Engine, make_engine
from app.db.jobs import JobFilter
from app.db.migrate import upgrade
from app.db.scope import on_behalf_of
from benchmarks.pooler import backends_cpu_s
from tests.support import servers
from tests.support.jobs import Queue, succeeded
from workers.settle import settle

TIMES = 1500
GROUP = 16
TENANTS = 8


def _filled(queue: Queue) -> list[UUID]:
    worker = queue.worker()
    ids = [queue.submit({"n": number}) for number in range(300)]
    while claimed := queue.claim(worker, 50):
        settle(queue.engine, worker, [succeeded(job) for job in claimed])
    return ids


def _statements(queue: Queue, engine: Engine, ids: list[UUID]) -> dict[str, Callable[[int], object]]:
    """By name, what is measured; each is told its number. `one` and `many`: of how many tenants."""
    mine, them = queue.tenant_id, range(queue.tenant_id, queue.tenant_id + TENANTS)

    def accepts(tenants: range | list[int], size: int) -> None:
        chosen = [(queue.job(tenant_id=tenants[number % len(tenants)]), None) for number in range(size)]
        with on_behalf_of(job.tenant_id for job, _ in chosen):
            accept.accept_group(engine, chosen)

    def reads(number: int, size: int) -> None:
        with on_behalf_of([mine]):
            jobs.get_many(engine, {(mine, ids[(number + step) % len(ids)]) for step in range(size)})

    def lists(_: int) -> None:
        with on_behalf_of([mine]):
            jobs.list_jobs(engine, JobFilter(mine, 20))

    return {
        "accept 1": lambda _: accepts([mine], 1),
        f"accept {GROUP}, one tenant": lambda _: accepts([mine], GROUP),
        f"accept {GROUP}, the tenant changes": lambda number: accepts([them[number % TENANTS]], GROUP),
        f"accept {GROUP}, {TENANTS} tenants": lambda _: accepts(them, GROUP),
        "read 1": lambda number: reads(number, 1),
        "read 8": lambda number: reads(number, 8),
        "list 20": lists,
    }


def main() -> None:
    """Three rounds, each role in turn. Microseconds of CPU for each statement: Postgres's, and ours."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    with tempfile.TemporaryDirectory() as folder, servers.postgres(Path(folder)) as server:
        server.execute("CREATE DATABASE migrated")
        url = server.url("migrated")
        upgrade(url, api_url=servers.api_url(url))
        queue = Queue.open(url)
        ids = _filled(queue)
        roles = {"owner": url, "api": servers.api_url(url)}
        engines = {
            role: make_engine(SecretStr(way), pool_size=1, lookups_only=True, scoped=role == "api")
            for role, way in roles.items()
        }
        statements = {role: _statements(queue, engine, ids) for role, engine in engines.items()}
        for name in statements["api"]:
            for _ in range(3):
                line = [f"{name}:"]
                for role in roles:
                    run = statements[role][name]
                    for number in range(20):
                        run(number)
                    began, own = backends_cpu_s(queue), time.process_time()
                    for number in range(TIMES):
                        run(number)
                    own, theirs = time.process_time() - own, backends_cpu_s(queue) - began
                    line.append(f"{role} {theirs / TIMES * 1e6:.0f} + {own / TIMES * 1e6:.0f} us")
                print(*line)


if __name__ == "__main__":
    main()
