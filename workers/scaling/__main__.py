"""The scaler process: `python -m workers.scaling`."""

import signal
import sys
import threading

from app.db.engine import connect, make_engine
from app.domain import pools
from app.domain.pools import Pool
from app.errors import SettingsError, Unavailable
from app.observability import logs
from app.settings import Settings, load
from workers.scaling.executor import Executor
from workers.scaling.scaler import Scaler


def compose(settings: Settings) -> Scaler:
    """The scaler with an executor for every pool. Raises `SettingsError`."""
    if settings.pools_file is None:
        raise SettingsError(["HEADRACE_POOLS_FILE: is required"])
    declared = pools.read(settings.pools_file)
    engine = make_engine(settings.database_url, statement_timeout_s=30, application_name="headrace scaler")
    return Scaler(engine, declared, {pool.name: executor_for(pool, settings) for pool in declared})


def executor_for(pool: Pool, settings: Settings) -> Executor:
    """Imports one kind of executor only: a cloud's SDK need not be there for a pool elsewhere."""
    if pool.executor == "local":
        from workers.scaling.local import LocalExecutor

        if settings.scaling.state_dir is None:
            raise SettingsError(
                [f"pools.{pool.name}: executor local is for the embedded stack: run `headracectl up`"]
            )
        return LocalExecutor(pool, settings.scaling.state_dir)
    if pool.executor == "kubernetes":
        from workers.scaling.kubernetes import KubernetesExecutor

        return KubernetesExecutor.of(pool)
    from workers.scaling import aws

    return aws.executor_of(pool)


def main() -> None:
    """Run until SIGTERM or SIGINT."""
    try:
        settings = load()
        logs.configure(settings)
        engine = make_engine(settings.database_url)
        with connect(engine):
            pass
        engine.dispose()
        scaler = compose(settings)
    except SettingsError as error:
        sys.exit("\n".join(["headrace scaler: settings are wrong:", *error.problems]))
    except Unavailable as error:
        sys.exit(f"headrace scaler: {error}")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    scaler.run(stop, settings.scaling.tick_s)


if __name__ == "__main__":
    main()
