"""The scheduler process: `python -m workers.maintenance`."""

import signal
import sys
import threading

from app.broker.ring import Ringer
from app.db.engine import connect, make_engine
from app.errors import SettingsError, Unavailable
from app.observability import exporter, logs
from app.settings import Settings, load
from app.storage import Storage
from workers.maintenance.age import Age
from workers.maintenance.expire import Expire
from workers.maintenance.measure import Measure
from workers.maintenance.promote import Promote
from workers.maintenance.prune import Prune, PruneFiles
from workers.maintenance.rescue import Rescue
from workers.maintenance.scheduler import Every, Scheduler
from workers.maintenance.sweep import Sweep
from workers.notify import Notifier

_AGE_EVERY_S = 5.0


def compose(settings: Settings) -> Scheduler:
    """The scheduler with every service. Rescue and promote come before sweep, so that one round rings
    for what it brought back. Each scheduler measures: gauges of one that waits for the lock would be old.
    """
    engine = make_engine(settings.database_url, statement_timeout_s=60, application_name="headrace scheduler")
    notifier, ringer = Notifier(settings.redis_url), Ringer(settings.redis_url)
    tick, worker = settings.scheduler.tick_s, settings.worker
    rescue = Rescue(engine, notifier, worker.lease_ttl_s, worker.max_crashes)
    prune = Prune(engine, settings.scheduler.retention_days, settings.scheduler.idempotency_hours)
    prune_files = PruneFiles(engine, Storage.of(settings))
    return Scheduler(
        engine,
        [
            Every("rescue", tick, rescue.run_once),
            Every("promote", tick, Promote(engine).run_once),
            Every("age", _AGE_EVERY_S, Age(engine, settings.scheduler.ageing_s).run_once),
            Every("expire", tick, Expire(engine, notifier).run_once),
            Every("sweep", tick, Sweep(engine, ringer, worker.slice_s).run_once),
            Every("measure", settings.scheduler.measure_s, Measure(engine).run_once, alone=False),
            Every("prune_files", settings.scheduler.prune_files_s, prune_files.run_once),
            Every("prune", settings.scheduler.prune_s, prune.run_once),
        ],
        tick,
    )


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    try:
        settings = load()
        logs.configure(settings)
        engine = make_engine(settings.database_url)
        with connect(engine):
            pass
        engine.dispose()
        scheduler = compose(settings)
        exporter.export(settings.metrics_bind)
    except SettingsError as error:
        sys.exit("\n".join(["headrace scheduler: settings are wrong:", *error.problems]))
    except Unavailable as error:
        sys.exit(f"headrace scheduler: {error}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    scheduler.run(stop)


if __name__ == "__main__":
    main()
