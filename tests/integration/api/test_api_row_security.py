"""The second net under tenants: what the API's role sees and does in Postgres, whatever a statement says."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from app.db import jobs, roles, tenants
from app.db.engine import connect, make_engine, transaction
from app.db.scope import on_behalf_of, on_behalf_of_operators, work_for
from app.db.tables import metadata
from app.domain.scopes import SCOPES
from app.domain.states import JobStatus
from app.errors import SettingsError
from tests.integration.api.client import Api, HandSender, HandWorker
from tests.integration.api.conftest import open_api
from tests.support.servers import API_USER, api_url

# The queue's own: how much waits and not what, which shares and forecasts need whole.
SHARED_PLACES = {
    "job_ready",
    "job_deferred",
    "job_leases",
    "webhook_queue",
    "webhook_leases",
    "batch_work",
    "fair_shares",
}
OF_NO_TENANT = {
    "audit_log",
    "model_versions",
    "models",
    "pool_states",
    "stray_objects",
    "version_speeds",
    "workers",
}
KEPT_APART = set(metadata.tables) - SHARED_PLACES - OF_NO_TENANT


@pytest.fixture
def two(api: Api, worker: HandWorker, sender: HandSender) -> tuple[int, int]:
    """Two tenants with a row in every table that row-level security holds."""
    _everything(api, worker, sender)
    other = tenants.ensure(api.queue.engine, "stranger", actor="test")
    _everything(api.with_key(*SCOPES, tenant_id=other), worker, sender)
    return api.queue.tenant_id, other


def _everything(api: Api, worker: HandWorker, sender: HandSender) -> None:
    api.register()
    api.submit({"n": 1}, headers={"Idempotency-Key": "once"})
    worker.work()
    sender.send()
    with connect(api.queue.engine) as connection:
        job = connection.execute(text("SELECT id, tenant_id FROM jobs ORDER BY id DESC LIMIT 1")).one()
        given = {"job_id": job.id, "tenant_id": job.tenant_id}
        connection.execute(
            text("INSERT INTO job_progress (job_id, epoch, fraction) VALUES (:job_id, 1, 0.5)"), given
        )
        connection.execute(
            text(
                "INSERT INTO files (id, tenant_id, purpose, filename, bytes, sha256)"
                " VALUES (:job_id, :tenant_id, 'batch', 'a', 1, sha256('a'))"
            ),
            given,
        )
        connection.execute(
            text(
                "INSERT INTO batches (id, tenant_id, endpoint, completion_window, expires_at)"
                " VALUES (:job_id, :tenant_id, '/v1/jobs', '24h', now())"
            ),
            given,
        )
        connection.execute(
            text("INSERT INTO batch_errors (batch_id, line, code, message) VALUES (:job_id, 1, 'a', 'b')"),
            given,
        )
        connection.execute(text("INSERT INTO batch_tallies VALUES (:job_id, now(), 1, 0, 0, 0)"), given)


@pytest.fixture
def api_engine(database_url: str, request: pytest.FixtureRequest) -> Iterator[Engine]:
    """As the API connects."""
    engine = make_engine(
        SecretStr(api_url(database_url) + getattr(request, "param", "")),
        pool_size=1,
        lookups_only=True,
        scoped=True,
    )
    # The last request of this thread was another one's.
    work_for(None)
    yield engine
    engine.dispose()


both_ways = pytest.mark.parametrize("api_engine", ["", "?pooler=transaction"], indirect=True)


def _counts(engine: Engine) -> dict[str, int]:
    with connect(engine) as connection:
        return {
            table: connection.execute(text(f"SELECT count(*) FROM {table}")).scalar_one()
            for table in sorted(KEPT_APART)
        }


def test_each_table_is_held_or_is_known_to_be_everybodys(api: Api) -> None:
    held = text("SELECT relname FROM pg_class WHERE relrowsecurity")
    with connect(api.queue.engine) as connection:
        assert set(connection.execute(held).scalars()) == KEPT_APART
    assert set(roles.GRANTS) == {*metadata.tables, "alembic_version"}


@both_ways
def test_a_statement_without_a_predicate_sees_what_it_works_for(
    two: tuple[int, int], api_engine: Engine
) -> None:
    one, other = two
    nobody = _counts(api_engine)
    assert set(nobody.values()) == {0}
    with on_behalf_of([one]):
        first = _counts(api_engine)
    with on_behalf_of([other]):
        second = _counts(api_engine)
    with on_behalf_of(two):
        both = _counts(api_engine)
    with on_behalf_of_operators():
        operators = _counts(api_engine)
    assert all(first.values()), first
    assert all(second.values()), second
    assert both == {table: first[table] + second[table] for table in first}
    # Who is who, and nobody's jobs.
    assert operators == {**nobody, "tenants": both["tenants"], "api_keys": both["api_keys"]}
    assert _counts(api_engine) == nobody


@both_ways
def test_nothing_is_written_for_whom_it_does_not_work_for(two: tuple[int, int], api_engine: Engine) -> None:
    one, other = two
    insert = text(
        "INSERT INTO idempotency_keys (tenant_id, endpoint, key, fingerprint, resource_id)"
        " VALUES (:tenant_id, 'e', 'k', '', gen_random_uuid())"
    )
    with on_behalf_of([one]):
        with connect(api_engine) as connection:
            connection.execute(insert, {"tenant_id": one})
        with pytest.raises(ProgrammingError, match="row-level security"), connect(api_engine) as connection:
            connection.execute(insert, {"tenant_id": other})
        with transaction(api_engine) as connection:
            changed = connection.execute(text("UPDATE jobs SET use_case = 'mine'"))
            moved = text("UPDATE files SET tenant_id = :tenant_id")
            with pytest.raises(ProgrammingError, match="row-level security"), connection.begin_nested():
                connection.execute(moved, {"tenant_id": other})
    assert changed.rowcount == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_log SET actor = 'nobody'",
        "DELETE FROM audit_log",
        "TRUNCATE jobs",
        "ALTER TABLE jobs DISABLE ROW LEVEL SECURITY",
        "DROP POLICY tenant ON jobs",
        "UPDATE models SET current_version_id = 1",
        "SELECT 1 FROM {partition}",
        "SET ROLE headrace",
        "CREATE TABLE mine (a int)",
    ],
)
def test_the_role_may_do_what_the_api_does_and_no_more(
    api: Api, api_engine: Engine, statement: str, database_url: str
) -> None:
    partition = text("SELECT min(CAST(inhrelid AS regclass)::text) FROM pg_inherits")
    with connect(api.queue.engine) as connection:
        name = connection.execute(partition).scalar_one()
    with (
        on_behalf_of_operators(),
        pytest.raises(ProgrammingError, match=r"denied|must be owner"),
        connect(api_engine) as connection,
    ):
        connection.execute(text(statement.format(partition=name)))


def test_a_read_that_forgets_its_tenant_finds_no_job_of_another(
    database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    forgetful = str(jobs._GET).replace("AND tenant_id = wanted.tenant_id", "")
    assert forgetful != str(jobs._GET)
    monkeypatch.setattr(jobs, "_GET", text(forgetful))
    with open_api(database_url, redis_url) as api:
        job = api.submit({"n": 1})
        other = api.with_key(*SCOPES, tenant_id=tenants.ensure(api.queue.engine, "stranger", actor="test"))
        assert api.get(f"/v1/jobs/{job['id']}").status_code == 200
        assert other.get(f"/v1/jobs/{job['id']}").status_code == 404
    # As the owner of the tables, nothing would have held it back.
    with open_api(database_url, redis_url) as api:
        found = jobs.get_many(api.queue.engine, {(-1, api.queue.submit())})
        assert [row.status for row in found.values()] == [JobStatus.QUEUED]


def test_a_role_that_nothing_would_hold_is_refused(database_url: str) -> None:
    with pytest.raises(SettingsError, match="row-level security does not hold headrace"):
        roles.admit(database_url, database_url)
    with pytest.raises(SettingsError, match="must name a user"):
        roles.admit(database_url, "postgresql://127.0.0.1/d")


def test_a_role_that_may_not_be_made_is_asked_for_by_its_statement(database_url: str) -> None:
    # The API's role may make no other.
    with pytest.raises(SettingsError, match='CREATE ROLE "another" LOGIN PASSWORD'):
        roles.admit(api_url(database_url), "postgresql://another:secret@127.0.0.1/d")


def test_who_may_make_no_role_may_grant_to_one_that_is_there(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE ROLE plain LOGIN PASSWORD 'plain' IN ROLE headrace")
    try:
        plain = "postgresql://plain:plain@" + database_url.rpartition("@")[2]
        roles.admit(plain, api_url(database_url))
    finally:
        with psycopg.connect(database_url) as connection:
            connection.execute("DROP ROLE plain")


def test_granting_again_takes_back_what_was_added_by_hand(api: Api, database_url: str) -> None:
    def may_truncate() -> bool:
        with psycopg.connect(database_url) as connection:
            (may,) = connection.execute(f"SELECT has_table_privilege('{API_USER}', 'jobs', 'TRUNCATE')")
        return bool(may[0])

    with psycopg.connect(database_url) as connection:
        connection.execute(f"GRANT TRUNCATE ON jobs TO {API_USER}")
    assert may_truncate()
    roles.admit(database_url, api_url(database_url))
    assert not may_truncate()
    assert api.submit({"n": 1})["status"] == "queued"


def test_its_password_goes_to_the_server_as_what_is_stored(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[str] = []
    execute = psycopg.Connection.execute

    def noted(self: Any, query: Any, *arguments: Any) -> Any:
        sent.append(query if isinstance(query, str) else query.as_string(self))
        return execute(self, query, *arguments)

    monkeypatch.setattr(psycopg.Connection, "execute", noted)
    roles.admit(database_url, f"postgresql://made_for_this:{'p' * 24}@127.0.0.1/d")
    with psycopg.connect(database_url) as connection:
        connection.execute("DROP OWNED BY made_for_this")
        connection.execute("DROP ROLE made_for_this")
    assert any("SCRAM-SHA-256$" in statement for statement in sent)
    assert not any("pppp" in statement for statement in sent)
