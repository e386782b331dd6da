"""The hot path's way to Postgres: errors and lost connections as everywhere else."""

import json
import subprocess
import sys
import traceback
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db.engine import connect, copy_in, make_engine, rows, sqlstate, transaction
from app.errors import Unavailable
from app.settings import Worker

ROOT = Path(__file__).resolve().parents[2]
LEASE_S = Worker().lease_ttl_s
ONE = text("SELECT :n AS n, CAST('[1]' AS json) AS list")


def test_one_error_tells_of_every_lost_connection(database_url: str) -> None:
    engine = make_engine(SecretStr(database_url), pool_size=3, application_name="lost")
    with ExitStack() as held:
        for _ in range(3):
            held.enter_context(connect(engine))
    with psycopg.connect(database_url) as connection:
        ended = connection.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'lost'"
        ).fetchone()
    assert ended == (3,)
    with pytest.raises(Unavailable) as refused:
        rows(engine, ONE, {"n": 1})
    assert sqlstate(refused.value) == "57P01"
    for n in range(4):
        found = rows(engine, ONE, {"n": n})
        assert [(row.n, row.list) for row in found] == [(n, [1])]
    engine.dispose()


def test_a_server_that_became_a_standby_is_left_for_the_next_connection(database_url: str) -> None:
    """As after a failover that broke no connection, or a name that leads to the old primary for a while."""
    engine = make_engine(SecretStr(database_url))
    name, make = engine.url.database, text("CREATE TABLE made (n int)")
    with psycopg.connect(database_url, autocommit=True) as operator:
        operator.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")

    def by_sqlalchemy() -> None:
        with transaction(engine) as connection:
            connection.execute(make)

    for way in (by_sqlalchemy, lambda: rows(engine, make, {})):
        with pytest.raises(Unavailable) as refused:
            way()
        assert sqlstate(refused.value) == "25006"
    with psycopg.connect(database_url, autocommit=True) as operator:
        operator.execute("SET default_transaction_read_only = off")
        operator.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    by_sqlalchemy()
    engine.dispose()


def test_of_several_servers_the_one_that_may_write_is_taken(database_url: str) -> None:
    before, _, after = database_url.rpartition("@")
    server, _, name = after.partition("/")
    url = f"{before}@127.0.0.1:1,{server}/{name}?target_session_attrs=read-write"
    engine = make_engine(SecretStr(url))
    assert rows(engine, ONE, {"n": 1})[0].n == 1
    engine.dispose()


def test_what_was_sent_is_in_no_error(database_url: str) -> None:
    engine = make_engine(SecretStr(database_url))
    with pytest.raises(DBAPIError) as failed:
        rows(engine, text("SELECT CAST(:secret AS text)::int AS n"), {"secret": "planted"})
    assert not isinstance(failed.value, Unavailable)
    assert "planted" not in repr(failed.value.params)
    assert "planted" not in str(failed.value.statement)
    engine.dispose()


PLANTED = "my diary"
VIOLATED = "CREATE TEMP TABLE diary (page text CONSTRAINT empty CHECK (page = ''))"


def test_what_postgres_quotes_is_in_no_error(database_url: str) -> None:
    """Each of these quotes what was sent, in its message, its detail or its context."""
    engine = make_engine(SecretStr(database_url))
    insert = text("INSERT INTO diary VALUES (:secret)")
    with transaction(engine) as connection:
        connection.execute(text(VIOLATED))

    def by_sqlalchemy() -> None:
        with transaction(engine) as connection:
            connection.execute(insert, {"secret": PLANTED})

    def by_copy() -> None:
        with transaction(engine) as connection:
            copy_in(connection, "COPY diary FROM STDIN", [PLANTED])

    def by_a_cast() -> None:
        rows(engine, text("SELECT CAST(:secret AS text)::int AS n"), {"secret": PLANTED})

    for broken, code in (
        (by_sqlalchemy, "23514 diary empty"),
        (lambda: rows(engine, insert, {"secret": PLANTED}), "23514 diary empty"),
        (by_copy, "23514 diary empty"),
        (by_a_cast, "22P02"),
    ):
        with pytest.raises((DBAPIError, psycopg.Error)) as failed:
            broken()
        told = "".join(traceback.format_exception(failed.value)) + repr(failed.value)
        assert PLANTED not in told
        assert code in told
    with pytest.raises(DBAPIError, match='relation "nowhere" does not exist'):
        rows(engine, text("SELECT FROM nowhere"), {})
    engine.dispose()


def _has_networks_of_its_own() -> bool:
    try:
        done = subprocess.run(
            ["unshare", "--net", "--", "sh", "-c", "ip link set lo up && tc qdisc add dev lo root blackhole"],
            capture_output=True,
            check=False,
        )
    except OSError:
        return False
    return done.returncode == 0


@pytest.mark.skipif(not _has_networks_of_its_own(), reason="needs root, and Linux's unshare and tc")
def test_a_server_that_is_lost_with_its_machine_is_noticed_well_within_a_lease(tmp_path: Path) -> None:
    command = ["unshare", "--net", "--", sys.executable, "-m", "tests.support.lost_server", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    noticed = json.loads(done.stdout)
    assert noticed.keys() == {"waits", "asks", "connects"}
    assert max(noticed.values()) < LEASE_S / 2, noticed
