"""Webhooks: how many a second one sender process delivers to a fast receiver on loopback."""

import asyncio
import time

from pydantic import SecretStr
from sqlalchemy import text

from app.broker.ring import Ringer
from app.db.engine import Engine, connect, make_engine
from app.db.outbox import tell_of_jobs
from app.domain.egress import EgressPolicy
from app.domain.stages import DeliveryBell
from benchmarks.baselines import receiver
from benchmarks.figures import Figure, Measured
from benchmarks.stack import Stack
from workers.egress import Egress

AT_A_TIME = 64

# Jobs that ended, told of by the very statement that settle uses.
_FILL = text(
    """
    WITH made AS (
        INSERT INTO jobs (id, tenant_id, version_id, lane, priority, input, input_hash, expires_at, webhook,
                          webhook_events, execution_timeout_s, max_attempts, initial_delay_ms, max_delay_ms)
        SELECT uuidv7(), (SELECT min(id) FROM tenants), (SELECT min(id) FROM model_versions), 0, 1,
               '{"text":"a text of the usual length, to have something to send"}', '',
               now() + interval '1 hour', :url, '{completed}', 60, 1, 1, 1
          FROM generate_series(1, :count)
        RETURNING id
    )
    INSERT INTO job_results (job_id, status, output)
    SELECT id, 'succeeded', '{"text":"a text of the usual length, to have something to send"}' FROM made
    """
)
_TELL = text(
    f"""
    WITH ended AS (
        SELECT id AS job_id FROM jobs WHERE webhook = :url
    ), {tell_of_jobs("ended", "job.completed")}
    SELECT count(*) FROM told
    """
)


def run(stack: Stack, *, count: int = 5_000) -> Measured:
    """Deliveries per second from the first arrival to the last, and of the bare HTTP client beside it."""
    engine = make_engine(SecretStr(stack.database_url), statement_timeout_s=60)
    with receiver.running() as fast:
        bare = asyncio.run(_post(fast, count))
        fast.arrivals()
        rate = _deliver(stack, engine, fast, count)
    engine.dispose()
    return [
        Figure("webhooks", f"bare client, {AT_A_TIME} at a time", bare, "posts/s"),
        Figure("webhooks", "one sender process", rate, "deliveries/s", rate / bare),
    ]


def _deliver(stack: Stack, engine: Engine, fast: receiver.Running, count: int) -> float:
    url = fast.url(f"/{time.time_ns()}")
    with connect(engine) as connection:
        connection.execute(_FILL, {"url": url, "count": count})
        connection.execute(text("ANALYZE"))
        connection.execute(_TELL, {"url": url})
    Ringer(SecretStr(stack.redis_url)).ring(DeliveryBell())
    arrived: dict[str, float] = {}
    until = time.monotonic() + 120
    while len(arrived) < count and time.monotonic() < until:
        time.sleep(0.5)
        arrived |= fast.arrivals()
    if len(arrived) < count:
        raise RuntimeError(f"only {len(arrived)} of {count} deliveries arrived")
    return count / (max(arrived.values()) - min(arrived.values()))


async def _post(fast: receiver.Running, count: int) -> float:
    """The same requests by the client that the sender uses, without a queue."""
    body = b"x" * 1500
    async with Egress(EgressPolicy(allow_http=True, allow_loopback=True)) as egress:

        async def some(numbers: range) -> None:
            for number in numbers:
                headers = {"webhook-id": str(number), "content-type": "application/json"}
                await egress.post(fast.url(), headers, body, deadline_s=15)

        started = time.perf_counter()
        await asyncio.gather(*(some(range(first, count, AT_A_TIME)) for first in range(AT_A_TIME)))
        return count / (time.perf_counter() - started)
