"""The Celery application that API and workers share: JSON only, acked on receipt, no result backend.

None of acks_late, visibility timeouts, ETA tasks, priorities or a result backend is used: they are the
parts of Celery on Redis that lose or double work. A message is a doorbell; Postgres owns the jobs.
"""

from celery import Celery
from pydantic import SecretStr


def make_celery(redis_url: SecretStr) -> Celery:
    """The app, with every setting that differs from Celery's defaults. Makes no connection yet."""
    app = Celery("headrace", broker=redis_url.get_secret_value())
    app.conf.update(
        task_serializer="json",
        accept_content=["json"],
        event_serializer="json",
        task_ignore_result=True,
        task_default_queue="cpu.interactive",
        task_acks_late=False,
        # Ready messages stay in Redis for whichever child is free first.
        worker_prefetch_multiplier=1,
        worker_send_task_events=True,
        # A child imports torch and loads models; four seconds would not be enough on a busy machine.
        worker_proc_alive_timeout=60,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        # A Redis that answers and refuses, as a primary does that became a replica, must not end a worker.
        broker_channel_error_retry=True,
        task_publish_retry=False,
        enable_utc=True,
        timezone="UTC",
        # Queues are read in the order they were given to the worker: interactive before batch.
        broker_transport_options={"queue_order_strategy": "priority"},
    )
    return app
