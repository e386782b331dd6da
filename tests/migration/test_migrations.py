"""Migrations: up, down, up again; equal to the metadata; safe against locks and against each other."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import psycopg
import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

from app.db.engine import sqlalchemy_url
from app.db.migrate import alembic_config, downgrade, upgrade
from app.db.tables import PARTITIONED, metadata
from app.errors import Unavailable


def differences(database_url: str) -> list[object]:
    partitions = tuple(f"{table.name}_p" for table in PARTITIONED)

    def ours(name: str | None, type_: str, _parents: object) -> bool:
        return not (type_ == "table" and (name or "").startswith(partitions))

    engine = create_engine(sqlalchemy_url(database_url))
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "include_name": ours}
        )
        found = list(compare_metadata(context, metadata))
    engine.dispose()
    return found


def names(database_url: str) -> set[str]:
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
            " AND relname NOT LIKE 'alembic_version%'"
        )
        return {row[0] for row in rows}


def test_the_migrated_schema_is_the_metadata(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    assert differences(empty_database_url) == []


def test_the_comparison_would_see_a_difference(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("ALTER TABLE workers DROP COLUMN cause CASCADE")
    assert differences(empty_database_url)


def test_down_to_nothing_and_up_again(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    first = names(empty_database_url)
    downgrade(empty_database_url, "base")
    assert names(empty_database_url) == set()
    upgrade(empty_database_url)
    assert names(empty_database_url) == first


def test_every_revision_goes_up_and_down_by_itself(empty_database_url: str) -> None:
    script = ScriptDirectory.from_config(alembic_config(empty_database_url))
    revisions = [revision.revision for revision in script.walk_revisions()][::-1]
    for revision in revisions:
        upgrade(empty_database_url, revision)
        command.downgrade(alembic_config(empty_database_url), "-1")
        upgrade(empty_database_url, revision)
    assert len(script.get_heads()) == 1


def test_twice_is_once(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    upgrade(empty_database_url)
    assert differences(empty_database_url) == []


def test_an_index_whose_making_was_interrupted_is_made_whole(empty_database_url: str) -> None:
    """One partition's part is left over unattached, and all the others' are missing."""
    upgrade(empty_database_url)
    downgrade(empty_database_url, "0014")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        on = "(tenant_id, job_id) WHERE status <> 'succeeded'"
        connection.execute(f"CREATE INDEX job_results_unsuccessful_idx ON ONLY job_results {on}")
        first = connection.execute(
            "SELECT min(inhrelid::regclass::text) FROM pg_inherits WHERE inhparent = 'job_results'::regclass"
        ).fetchone()
        assert first is not None
        connection.execute(f"CREATE INDEX {first[0]}_tenant_id_job_id_idx ON {first[0]} {on}")
        upgrade(empty_database_url)
        parts = connection.execute(
            "SELECT count(*), count(i.inhrelid), bool_and(x.indisvalid),"
            " (SELECT count(*) FROM pg_inherits WHERE inhparent = 'job_results'::regclass)"
            " FROM pg_index x LEFT JOIN pg_inherits i ON i.inhrelid = x.indexrelid"
            " WHERE indexrelid = 'job_results_unsuccessful_idx'::regclass"
            " OR inhparent = 'job_results_unsuccessful_idx'::regclass"
        ).fetchone()
    assert parts is not None
    made, attached, valid, partitions = parts
    assert (made, attached, valid) == (partitions + 1, partitions, True)
    assert partitions > 1
    assert differences(empty_database_url) == []


def test_migrators_queue_up(empty_database_url: str) -> None:
    with ProcessPoolExecutor(4, multiprocessing.get_context("spawn")) as pool:
        list(pool.map(upgrade, [empty_database_url] * 4))
    assert differences(empty_database_url) == []


def test_a_table_that_stays_locked_makes_the_migration_give_up(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as reader:
        reader.execute("SELECT count(*) FROM job_ready")
        with pytest.raises((OperationalError, Unavailable), match="lock timeout"):
            downgrade(empty_database_url, "base")
    # The revision that gave up is whole, and those before it are undone: the way up is open.
    upgrade(empty_database_url)
    assert differences(empty_database_url) == []


def test_no_database_is_one_clear_error() -> None:
    with pytest.raises(Unavailable, match="not reachable"):
        upgrade("postgresql://nobody@127.0.0.1:1/nowhere")


def test_inputs_and_outputs_are_stored_as_they_are_in_partitions_old_and_new(
    empty_database_url: str,
) -> None:
    upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute(
            "CREATE TABLE late PARTITION OF jobs FOR VALUES FROM ('00000000-0000-0000-0000-000000000001')"
            " TO ('00000000-0000-0000-0000-000000000002')"
        )
        rows = connection.execute(
            "SELECT DISTINCT c.relname ~ '^job_results', a.attstorage FROM pg_attribute a"
            "  JOIN pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'p')"
            " WHERE (c.relname ~ '^(jobs|jobs_p.*|late)$' AND a.attname = 'input')"
            "    OR (c.relname ~ '^job_results' AND a.attname = 'output')"
        ).fetchall()
    assert sorted(rows) == [(False, "e"), (True, "e")]
