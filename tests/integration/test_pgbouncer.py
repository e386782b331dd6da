"""Behind PgBouncer in transaction mode: the queue's own tests, and what only Postgres itself can do."""

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest
from pydantic import SecretStr

from app.db.engine import is_pooled, make_engine, sqlalchemy_url
from app.db.migrate import upgrade
from app.errors import SettingsError
from tests.support.debian import program

ROOT = Path(__file__).resolve().parents[2]
POOLED = "postgresql://h:6432/d?sslmode=verify-full&pooler=transaction"


def test_the_verbs_and_the_scheduler_work_behind_a_pooler_with_two_connections(tmp_path: Path) -> None:
    program("pgbouncer", "pgbouncer", "libc-ares2")
    files = [
        f"tests/integration/{name}.py" for name in ("test_accept", "test_claim_and_settle", "test_upkeep")
    ]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.support.pooled", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'inner'}", *files],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_url_says_that_there_is_a_pooler_and_the_driver_is_not_told() -> None:
    assert is_pooled(POOLED)
    assert sqlalchemy_url(POOLED) == "postgresql+psycopg://h:6432/d?sslmode=verify-full"
    assert not is_pooled("postgresql://h/d?pooler=no")


def test_nothing_is_left_with_the_poolers_connections(
    monkeypatch: pytest.MonkeyPatch, database_url: str
) -> None:
    told = {}
    connect = psycopg.connect

    def noted(*arguments: str, **options: object) -> object:
        told.update(options)
        return connect(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(psycopg, "connect", noted)
    monkeypatch.setattr(psycopg.Connection, "connect", noted)
    make_engine(SecretStr(f"{database_url}?pooler=transaction")).connect().close()
    assert told["prepare_threshold"] is None
    assert "options" not in told


def test_migrations_ask_for_postgres_itself() -> None:
    with pytest.raises(SettingsError, match="without pooler=transaction"):
        upgrade(POOLED)
