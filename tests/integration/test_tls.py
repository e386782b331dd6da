"""Redis and Postgres by TLS, certificates checked: `rediss://` and `sslmode=verify-full`, on Debian's.

Those of the wheels are built without TLS.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text

from app.broker.celery import make_celery
from app.broker.redis import make_client
from app.broker.ring import Ringer
from app.db.engine import connect, make_engine
from app.embedded.ports import Ports
from app.errors import Unavailable
from tests.integration.api.conftest import open_api
from tests.support.certificates import Certificate, certificate
from tests.support.debian import program
from tests.support.waiting import wait_until

_USER = "nobody" if os.geteuid() == 0 else None
"""Postgres refuses to be root."""


@dataclass(frozen=True)
class Secured:
    """A server that speaks TLS alone: its port, its certificate, and one that somebody else signed."""

    port: int
    own: Certificate
    other: Certificate


@contextmanager
def folder_of_user() -> Iterator[Path]:
    """A folder that `_USER` may reach, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="headrace-tls-"))
    try:
        folder.chmod(0o755)
        yield folder
    finally:
        shutil.rmtree(folder)


def give(*paths: Path) -> None:
    for path in paths:
        if _USER:
            shutil.chown(path, _USER)


@contextmanager
def running(command: list[str], environment: dict[str, str]) -> Iterator[None]:
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=environment, user=_USER, **quiet)  # type: ignore[call-overload]
    try:
        yield
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def redis() -> Iterator[Secured]:
    server = program("redis-server", "redis-server", "redis-tools", "liblzf1", "libjemalloc2")
    with folder_of_user() as folder:
        secured = Secured(Ports().take(), certificate(folder / "own"), certificate(folder / "other"))
        give(secured.own.key)
        options = {
            "bind": "127.0.0.1 127.0.0.2",
            "port": "0",
            "tls-port": str(secured.port),
            "tls-cert-file": str(secured.own.certificate),
            "tls-key-file": str(secured.own.key),
            "tls-ca-cert-file": str(secured.own.certificate),
            "tls-auth-clients": "no",
            "requirepass": "p",
            "save": "",
            "dir": str(folder),
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        with running([server.path, *words], server.environment):
            client = make_client(SecretStr(redis_url(secured)))
            wait_until(lambda: _pings(client), 20, "Redis")
            yield secured


def _pings(client: object) -> bool:
    try:
        return bool(client.ping())  # type: ignore[attr-defined]
    except Exception:
        return False


def redis_url(secured: Secured, root: Certificate | None = None, host: str = "localhost") -> str:
    root = root or secured.own
    return f"rediss://:p@{host}:{secured.port}/0?ssl_cert_reqs=required&ssl_ca_certs={root.certificate}"


def test_bells_and_wake_ups_go_by_tls(redis: Secured, database_url: str) -> None:
    url = redis_url(redis)
    with open_api(database_url, url) as api:
        assert api.get("/readyz").json["checks"]["redis"]["ok"] is True
        api.submit()
        assert Ringer(SecretStr(url)).waiting("cpu.interactive") == 1
        wakeups = api.app.extensions["headrace"].wakeups
        job = api.submit()
        assert api.get(f"/v1/jobs/{job['id']}", headers={"Prefer": "wait=1"}).status_code == 200
        wait_until(lambda: wakeups.hearing, 10, "the listener")


def test_a_worker_takes_its_bells_by_tls(redis: Secured) -> None:
    with make_celery(SecretStr(redis_url(redis))).connection_for_read() as connection:
        connection.ensure_connection(max_retries=1, timeout=5)
        assert connection.default_channel.client.ping()


@pytest.mark.parametrize("wrong", ["root", "name", "plain"])
def test_a_redis_that_is_not_who_it_says_is_not_talked_to(
    redis: Secured, database_url: str, wrong: str
) -> None:
    url = {
        "root": redis_url(redis, redis.other),
        "name": redis_url(redis, host="127.0.0.2"),
        "plain": f"redis://:p@localhost:{redis.port}/0",
    }[wrong]
    with open_api(database_url, url) as api:
        answer = api.get("/readyz")
        assert answer.json["status"] == "degraded"
        assert answer.json["checks"]["redis"]["ok"] is False
        api.submit()


@pytest.fixture(scope="module")
def postgres() -> Iterator[Secured]:
    server = program("postgres", "postgresql-15")
    with folder_of_user() as folder:
        secured = Secured(Ports().take(), certificate(folder / "own"), certificate(folder / "other"))
        data = folder / "data"
        data.mkdir(mode=0o700)
        give(secured.own.key, data)
        binaries = Path(server.path).parent
        initdb = [str(binaries / "initdb"), "-D", str(data), "-U", "headrace", "-A", "trust", "--no-sync"]
        subprocess.run(
            [*initdb, "-E", "UTF8", "--locale=C"],
            env=server.environment,
            user=_USER,
            check=True,
            capture_output=True,
        )
        (data / "pg_hba.conf").write_text("hostssl all all 127.0.0.1/32 trust\n")
        options = {
            "port": str(secured.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "ssl": "on",
            "ssl_cert_file": str(secured.own.certificate),
            "ssl_key_file": str(secured.own.key),
            "fsync": "off",
        }
        words = [f"--{name}={value}" for name, value in options.items()]
        with running([server.path, "-D", str(data), *words], server.environment):
            wait_until(lambda: _connects(postgres_url(secured)), 30, "Postgres")
            yield secured


def _connects(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def postgres_url(secured: Secured, root: Certificate | None = None, host: str = "localhost") -> str:
    root = root or secured.own
    place = f"postgresql://headrace@{host}:{secured.port}/postgres"
    return f"{place}?sslmode=verify-full&sslrootcert={root.certificate}"


def test_the_engine_talks_to_postgres_by_tls(postgres: Secured) -> None:
    engine = make_engine(SecretStr(postgres_url(postgres)))
    with connect(engine) as connection:
        row = connection.execute(
            text("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        ).one()
    engine.dispose()
    assert row == (True, "TLSv1.3")


@pytest.mark.parametrize("wrong", ["root", "name", "plain"])
def test_a_postgres_that_is_not_who_it_says_is_not_talked_to(postgres: Secured, wrong: str) -> None:
    url = {
        "root": postgres_url(postgres, postgres.other),
        "name": postgres_url(postgres, host="elsewhere") + "&hostaddr=127.0.0.1",
        "plain": postgres_url(postgres).replace("verify-full", "disable"),
    }[wrong]
    engine = make_engine(SecretStr(url))
    with pytest.raises(Unavailable), connect(engine):
        pass
    engine.dispose()
