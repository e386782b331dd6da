"""The API's own role in Postgres: what it may do to which table. To which rows: migration 0014."""

from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import psycopg
from psycopg import sql

from app.errors import SettingsError, Unavailable

# Any fixed number; it names "grants of Headrace" among the advisory locks of this database.
LOCK = 0x68726772

_SEE, _ADD, _CHANGE, _REMOVE = "SELECT", "INSERT", "UPDATE", "DELETE"
GRANTS: Mapping[str, tuple[str, ...]] = {
    "alembic_version": (_SEE,),
    "tenants": (_SEE, _ADD, _CHANGE),
    "api_keys": (_SEE, _ADD, _CHANGE),
    "audit_log": (_SEE, _ADD),
    "models": (_SEE,),
    "model_versions": (_SEE,),
    "version_speeds": (_SEE,),
    "pool_states": (_SEE,),
    "workers": (_SEE, _CHANGE),
    "jobs": (_SEE, _ADD, _CHANGE),
    "job_ready": (_SEE, _ADD, _REMOVE),
    "job_deferred": (_SEE, _REMOVE),
    "job_leases": (_SEE, _CHANGE),
    "job_results": (_SEE, _ADD, _CHANGE),
    "job_attempts": (_SEE,),
    "job_progress": (_SEE,),
    "idempotency_keys": (_SEE, _ADD),
    "webhook_endpoints": (_SEE, _ADD, _CHANGE, _REMOVE),
    "webhook_deliveries": (_SEE, _ADD),
    "webhook_queue": (_SEE, _ADD, _CHANGE, _REMOVE),
    "webhook_leases": (_SEE,),
    "webhook_results": (_SEE, _ADD, _CHANGE, _REMOVE),
    "webhook_attempts": (_SEE,),
    "files": (_SEE, _ADD, _CHANGE, _REMOVE),
    "stray_objects": (_SEE, _ADD, _CHANGE, _REMOVE),
    "batches": (_SEE, _ADD, _CHANGE),
    "batch_errors": (_SEE,),
    "batch_tallies": (_SEE, _ADD),
    "batch_work": (_SEE, _ADD, _CHANGE),
    "fair_shares": (_SEE,),
}
"""Partitions are reached by way of their table, and by no other."""


def admit(database_url: str, api_url: str) -> None:
    """Give the role that `api_url` names what the API needs, and nothing else; make it unless it is there.

    Raises `SettingsError` if it is not there and may not be made, or is one that no policy holds, and
    `Unavailable`.
    """
    name, password = _login(api_url)
    try:
        with psycopg.connect(database_url) as connection:
            # Who grants the same at the same time breaks both off.
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
            _make(connection, name, password)
            _check(connection, name)
            role = sql.Identifier(name)
            connection.execute(sql.SQL("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {}").format(role))
            for table, privileges in GRANTS.items():
                connection.execute(
                    sql.SQL("GRANT {} ON {} TO {}").format(
                        sql.SQL(", ".join(privileges)), sql.Identifier(table), role
                    )
                )
    except psycopg.OperationalError as error:
        raise Unavailable(f"the database is not reachable: {error}") from error


def _login(url: str) -> tuple[str, str | None]:
    parts = urlsplit(url)
    if not parts.username:
        raise SettingsError(["HEADRACE_API_DATABASE_URL must name a user: postgresql://USER:PASSWORD@…"])
    return unquote(parts.username), unquote(parts.password) if parts.password else None


def _make(connection: psycopg.Connection, name: str, password: str | None) -> None:
    if connection.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name]).fetchone():
        return
    making = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(name))
    if password is not None:
        # What the server would make of it, so that neither its log nor anybody on the way sees the password.
        verifier = connection.pgconn.encrypt_password(password.encode(), name.encode(), b"scram-sha-256")
        making += sql.SQL(" PASSWORD {}").format(sql.Literal(verifier.decode()))
    try:
        with connection.transaction():
            connection.execute(making)
    except (psycopg.errors.DuplicateObject, psycopg.errors.UniqueViolation):
        return  # another one made it meanwhile
    except psycopg.errors.InsufficientPrivilege:
        raise SettingsError(
            [
                f"HEADRACE_API_DATABASE_URL: there is no role {name}, and we may make none;"
                f" have an administrator run: CREATE ROLE \"{name}\" LOGIN PASSWORD '…'"
            ]
        ) from None


def _check(connection: psycopg.Connection, name: str) -> None:
    """Policies hold neither superusers, nor owners of a table, nor members of its owner."""
    found = connection.execute(
        """
        SELECT r.rolsuper OR r.rolbypassrls OR pg_has_role(r.oid, c.relowner, 'USAGE')
          FROM pg_roles r, pg_class c WHERE r.rolname = %s AND c.oid = 'jobs'::regclass
        """,
        [name],
    ).fetchone()
    if found is None or found[0]:
        raise SettingsError(
            [
                f"HEADRACE_API_DATABASE_URL: row-level security does not hold {name}, which owns the tables,"
                " may act for their owner, is a superuser or has BYPASSRLS; name a role of the API's own"
            ]
        )
