"""The hot path's way to Postgres: errors and lost connections as everywhere else."""

from contextlib import ExitStack

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from app.db.engine import connect, make_engine, rows, sqlstate
from app.errors import Unavailable

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


def test_what_was_sent_is_in_no_error(database_url: str) -> None:
    engine = make_engine(SecretStr(database_url))
    with pytest.raises(DBAPIError) as failed:
        rows(engine, text("SELECT CAST(:secret AS text)::int AS n"), {"secret": "planted"})
    assert not isinstance(failed.value, Unavailable)
    assert "planted" not in repr(failed.value.params)
    assert "planted" not in str(failed.value.statement)
    engine.dispose()
