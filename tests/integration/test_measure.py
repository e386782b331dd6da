"""The gauges of the queue: what waits, for how long, who serves it, and that what is gone is 0."""

from prometheus_client import REGISTRY

from tests.support.jobs import Queue, succeeded
from workers.maintenance.measure import Measure
from workers.settle import settle


def gauge(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def test_depth_age_and_service_of_the_queue_are_measured_and_go_back_to_0(queue: Queue) -> None:
    measure, echo = Measure(queue.engine), {"model": "echo", "lane": "interactive"}
    queue.submit()
    queue.submit()
    assert measure.run_once() == 2
    assert gauge("headrace_queue_jobs", **echo, place="ready") == 2
    assert gauge("headrace_queue_unserved_jobs", **echo) == 2, "no worker has come yet"
    age = gauge("headrace_queue_oldest_seconds", **echo)
    assert age is not None
    assert 0 <= age < 60

    worker = queue.worker()
    measure.run_once()
    assert gauge("headrace_queue_unserved_jobs", **echo) == 0
    assert gauge("headrace_workers", pool=worker.pool, state="ready") == 1

    settle(queue.engine, worker, [succeeded(job) for job in queue.claim(worker)])
    assert measure.run_once() == 0
    assert gauge("headrace_queue_jobs", **echo, place="ready") == 0
    assert gauge("headrace_queue_oldest_seconds", **echo) == 0
    assert gauge("headrace_webhook_overdue_seconds") == 0
