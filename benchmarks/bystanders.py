"""Bystanders: what webhooks to bad receivers cost the jobs, and the good receiver beside them."""

import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from headrace import Client, Job

from benchmarks.backlog import CLIENTS, log_normal_texts
from benchmarks.baselines import receiver
from benchmarks.figures import Figure, Measured, percentile
from benchmarks.stack import Stack
from tests.support.bad_receivers import BadReceivers, bad_receivers


def run(stack: Stack, *, count: int = 300, rounds: int = 5) -> Measured:
    """Texts per second without webhooks and with those of every job to four receivers, in turns.

    The ratio is the median of the turns': the two halves of one turn had the same machine, more or less.
    """
    texts = log_normal_texts(count)
    alone, beside, delays = [], [], []
    with Client(stack.url, stack.api_key) as client, receiver.running() as good:

        def without_webhooks() -> None:
            alone.append(_rate(_backlog(client, texts)))

        def with_webhooks() -> None:
            # The bad ones end with their half, so that nothing of it is under way in the next.
            with bad_receivers() as bad, _registered(client, good, bad) as endpoint_id:
                jobs = _backlog(client, texts)
                beside.append(_rate(jobs))
                delays.extend(_delays(client, good, endpoint_id, jobs))

        _backlog(client, texts)  # loads the model
        halves = [without_webhooks, with_webhooks]
        for _ in range(rounds):
            for half in halves:
                half()
            halves.reverse()
    ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
    subject = "bystanders"
    return [
        Figure(subject, "minilm without webhooks", statistics.median(alone), "texts/s"),
        Figure(subject, "with 1 good and 3 bad receivers", statistics.median(beside), "texts/s", ratio),
        Figure(subject, "result → good receiver, p50", percentile(delays, 0.5), "ms"),
        Figure(subject, "result → good receiver, p99", percentile(delays, 0.99), "ms"),
    ]


def _backlog(client: Client, texts: list[str]) -> list[Job]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        jobs = list(pool.map(lambda text: client.submit("minilm", {"text": text}), texts))
    return [job.wait(300) for job in jobs]


def _rate(jobs: list[Job]) -> float:
    """Jobs per second from the first one's creation to the last one's end, by the server's clock."""
    created = min(job.created_at for job in jobs if job.created_at)
    return len(jobs) / (max(job.completed_at for job in jobs if job.completed_at) - created).total_seconds()


@contextmanager
def _registered(client: Client, good: receiver.Running, bad: BadReceivers) -> Iterator[str]:
    """All four receivers as endpoints; the good one's id."""
    with ExitStack() as undo:
        ids = []
        for url in (good.url(), bad.refusing, bad.silent, bad.dripping):
            ids.append(client.webhooks.create(url).id)
            undo.callback(client.webhooks.delete, ids[-1])
        yield ids[0]


def _delays(client: Client, good: receiver.Running, endpoint_id: str, jobs: list[Job]) -> list[float]:
    """Milliseconds from each job's end to its arrival at the good receiver."""
    arrived: dict[str, float] = {}
    until = time.monotonic() + 60
    while len(arrived) < len(jobs):
        if time.monotonic() > until:
            raise RuntimeError(f"only {len(arrived)} of {len(jobs)} deliveries arrived")
        time.sleep(0.2)
        arrived |= good.arrivals()
    ended = {job.id: job.completed_at.timestamp() for job in jobs if job.completed_at}
    sent = client.webhooks.deliveries.list(endpoint_id=endpoint_id)
    return [(arrived[delivery.id] - ended[delivery.job_id or ""]) * 1000 for delivery in sent]
