"""The hot path's way to Postgres: errors and lost connections as everywhere else."""

import json
import socketserver
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from app.db.engine import connect, copy_in, make_engine, rows, sqlstate, transaction
from app.errors import NoRoom, Unavailable
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


LOCKS = "SELECT count(pg_advisory_xact_lock(n)) FROM generate_series(1, 1000000) AS n"
SPILL = "SELECT count(*) FROM (SELECT n FROM generate_series(1, 1000000) AS n ORDER BY n DESC) AS sorted"


def raised(code: str) -> str:
    return f"DO $$ BEGIN RAISE EXCEPTION 'as if' USING ERRCODE = '{code}'; END $$"


@pytest.mark.parametrize(
    ("before", "statement", "code", "said"),
    [
        ("SELECT", LOCKS, "53200", "out of memory"),
        ("SET temp_file_limit = '64kB'; SET work_mem = '64kB'", SPILL, "53400", "limit of its configuration"),
        ("SELECT", raised("58030"), "58030", "can't read or write its disk"),
    ],
)
def test_a_server_that_is_out_of_something_is_not_away(
    database_url: str, before: str, statement: str, code: str, said: str
) -> None:
    engine = make_engine(SecretStr(database_url), pool_size=1)
    with connect(engine) as connection:
        connection.exec_driver_sql(before)
    for way in (lambda: rows(engine, text(statement), {}), lambda: by_sqlalchemy(engine, statement)):
        with pytest.raises(NoRoom, match=said) as refused:
            way()
        assert sqlstate(refused.value) == code
    assert rows(engine, ONE, {"n": 1})[0].n == 1
    engine.dispose()


def by_sqlalchemy(engine: Engine, statement: str) -> None:
    with connect(engine) as connection:
        connection.exec_driver_sql(statement)


def test_what_postgres_can_never_do_is_a_bug(database_url: str) -> None:
    """Nobody shall try it again and again."""
    engine = make_engine(SecretStr(database_url))
    with pytest.raises(DBAPIError, match="54000"):
        by_sqlalchemy(engine, raised("54000"))
    engine.dispose()


@pytest.mark.parametrize(
    ("code", "words", "kind", "said"),
    [
        ("53300", "sorry, too many clients already", NoRoom, "takes no more connections"),
        ("53300", "remaining connection slots are reserved for x", NoRoom, "takes no more connections"),
        ("08P01", "no more connections allowed (max_client_conn)", NoRoom, "takes no more connections"),
        ("57P03", "the database system is starting up", Unavailable, "is starting up"),
        ("57P03", "the database system is in recovery mode", Unavailable, "is starting up"),
        ("57P03", "the database system is shutting down", Unavailable, "is shutting down"),
        ("28P01", 'password authentication failed for user "x"', Unavailable, "refuses the user or the"),
        ("XX000", "whatever else", Unavailable, "not reachable"),
    ],
)
def test_a_server_that_lets_nobody_in_is_heard(code: str, words: str, kind: type, said: str) -> None:
    """Whose words come without their code: libpq keeps it to itself."""
    with _door(code, words) as port:
        engine = make_engine(SecretStr(f"postgresql://x:y@127.0.0.1:{port}/z?sslmode=disable"))
        with pytest.raises(Unavailable) as refused:
            rows(engine, ONE, {"n": 1})
        assert type(refused.value) is kind
        assert said in str(refused.value)


@contextmanager
def _door(code: str, words: str) -> Iterator[int]:
    """A port where every greeting is answered by this."""

    class Refuse(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            told = b"".join(
                field + value.encode() + b"\0"
                for field, value in ((b"S", "FATAL"), (b"V", "FATAL"), (b"C", code), (b"M", words))
            )
            self.request.sendall(b"E" + (len(told) + 5).to_bytes(4, "big") + told + b"\0")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Refuse) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield int(server.server_address[1])
        server.shutdown()
        thread.join()


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
