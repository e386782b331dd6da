"""Fairness: 50 jobs of one tenant, alone and beside 50,000 that another one has waiting in the same lane."""

import json
import subprocess
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import psycopg
from headrace import Client
from pydantic import SecretStr

from app.db import accept, models, tenants
from app.db.engine import Engine, make_engine
from app.db.quotas import waiting_of_tenants
from app.domain.ids import new_uuid
from app.domain.lanes import Lane, Priority
from app.domain.model import ModelVersion
from app.domain.retry import RetryPolicy
from app.domain.stages import QueuedJob
from app.intake.shares import Shares
from benchmarks.figures import Figure, Measured, percentile
from benchmarks.stack import HEADRACECTL, Stack

MANY, FEW = 50_000, 50
_SLOW = {"sleep_ms": 50}


def run(stack: Stack, *, many: int = MANY, weight: int = 3) -> Measured:
    """How long 50 jobs take to end, p99; and how two tenants share who both have thousands waiting."""
    engine = make_engine(SecretStr(stack.database_url), lookups_only=True, application_name="fairness")
    echo = models.find(engine, "echo", None)
    assert echo is not None
    with Client(stack.url, _key(stack, "small")) as client:
        _ask(client)  # everything is loaded
        alone = _ask(client)
        _submit(engine, echo, tenants.ensure(engine, "large", actor="benchmark"), many)
        beside = _ask(client)
    _submit(engine, echo, tenants.ensure(engine, "larger", actor="benchmark"), many // 5, weight=weight)
    share = _share(stack, ("larger", "large"))
    engine.dispose()
    p99 = percentile(beside, 0.99)
    return [
        Figure("fairness", f"{FEW} jobs alone, p99", percentile(alone, 0.99), "ms"),
        Figure(
            "fairness", f"… beside {many:,} of another tenant, p99", p99, "ms", percentile(alone, 0.99) / p99
        ),
        Figure("fairness", f"jobs of weight {weight} for one of weight 1", share, "jobs"),
    ]


def _ask(client: Client) -> list[float]:
    """Milliseconds from each job's submit to its end."""

    def one(_: int) -> float:
        began = time.perf_counter()
        client.submit("echo", _SLOW).wait(timeout=300)
        return (time.perf_counter() - began) * 1000

    with ThreadPoolExecutor(FEW) as pool:
        return list(pool.map(one, range(FEW)))


def _submit(engine: Engine, echo: ModelVersion, tenant_id: int, count: int, weight: int = 1) -> None:
    """As the API does, without HTTP."""
    shares = Shares(lambda version_id: waiting_of_tenants(engine, version_id), time.monotonic)
    jobs = [
        QueuedJob(
            id=new_uuid(),
            tenant_id=tenant_id,
            version_id=echo.id,
            model="echo",
            version=echo.spec.version,
            device=echo.spec.device,
            lane=Lane.INTERACTIVE,
            priority=Priority.NORMAL,
            input=b'{"sleep_ms":50}',
            input_hash=b"",
            queue_ttl_s=86_400.0,
            execution_timeout_s=60.0,
            retry=RetryPolicy(),
            weight=weight,
        )
        for _ in range(count)
    ]
    for first in range(0, count, 500):
        group = jobs[first : first + 500]
        shares.placed(group, accept.accept_many(engine, group, shares.turns(group)))


def _share(stack: Stack, names: Sequence[str], seconds: float = 20.0) -> float:
    """How many of the first one's jobs end for one of the second's."""
    counts = [
        "SELECT count(*) FROM job_results r JOIN jobs j ON j.id = r.job_id"
        " JOIN tenants t ON t.id = j.tenant_id WHERE t.name = %s"
    ] * 2
    with psycopg.connect(stack.database_url, autocommit=True) as connection:

        def ended() -> list[int]:
            found = [
                connection.execute(sql, (name,)).fetchone() for sql, name in zip(counts, names, strict=True)
            ]
            return [row[0] for row in found if row]

        time.sleep(3)  # windows that were claimed before
        before = ended()
        time.sleep(seconds)
        first, second = (now - then for now, then in zip(ended(), before, strict=True))
    return first / second


def _key(stack: Stack, tenant: str) -> str:
    command = [HEADRACECTL, "keys", "create", "--tenant", tenant, "--name", "fairness", "--json"]
    made = subprocess.run(
        [*command, "--state-dir", stack.state_dir], check=True, capture_output=True, text=True
    )

    return str(json.loads(made.stdout)["key"])
