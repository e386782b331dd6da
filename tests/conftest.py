"""Fixtures that every kind of test shares. Unit tests use none of those that start a server."""

import contextlib
import gc
import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.support import servers, stacks
from tests.support.servers import PostgresServer
from tests.support.stacks import RunningStack


def pytest_configure() -> None:
    """Being terminated ends like Ctrl-C: fixtures are torn down. The caller's stack is not ours."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith("HEADRACE_")]:
        del os.environ[name]
    # It compares seconds of the wall clock, so it judges the machine's other work and not our code.
    settings.register_profile("headrace", suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("headrace")


@pytest.fixture(scope="module", autouse=True)
def what_is_there_stays() -> None:
    """Python's collector looks at nothing that was there before this module's tests. Torch and its like are a
    million objects, and looking through them again and again was most of what some tests took.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """The session's Postgres: `admin_url`, `url(database)`, `database(template)`. Not durable."""
    with servers.postgres(tmp_path_factory.mktemp("postgres")) as server:
        yield server


@pytest.fixture(scope="session")
def template_database(postgres_server: PostgresServer) -> str:
    """The name of a migrated, empty database to copy."""
    from app.db.migrate import upgrade

    name = "migrated"
    postgres_server.execute(f"CREATE DATABASE {name}")
    url = postgres_server.url(name)
    upgrade(url, api_url=servers.api_url(url))
    # A connection to a template would make every copy fail.
    postgres_server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    postgres_server.execute(
        f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
    )
    return name


@pytest.fixture
def database_url(postgres_server: PostgresServer, template_database: str) -> Iterator[str]:
    """A migrated database of this test alone."""
    with postgres_server.database(template_database) as url:
        yield url


@pytest.fixture
def empty_database_url(postgres_server: PostgresServer) -> Iterator[str]:
    """A database of this test alone, without a schema."""
    with postgres_server.database() as url:
        yield url


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of the session's Valkey."""
    with servers.redis(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def redis_url(valkey_server: str) -> str:
    """An empty Valkey database of this test alone."""
    with redis.Redis.from_url(valkey_server) as client:
        client.flushall()
    return valkey_server


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningStack]:
    """The whole system, one for the session. Tests that break something use `make_stack`."""
    with stacks.stack(tmp_path_factory.mktemp("stack") / "state") as running:
        yield running


@pytest.fixture
def make_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningStack]]:
    """Makes stacks of this test alone: options of `stacks.stack` and of `RunningStack.up`."""
    with contextlib.ExitStack() as running:

        def make(**options: Any) -> RunningStack:
            state_dir = options.pop("state_dir", None) or tmp_path_factory.mktemp("stack") / "state"
            return running.enter_context(stacks.stack(state_dir, **options))

        yield make
