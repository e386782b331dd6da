"""The engine: one pool per process, short timeouts, and Postgres's own errors turned into ours."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any
from urllib.parse import parse_qsl, urlencode

import orjson
import psycopg
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import namedtuple_row
from pydantic import SecretStr
from sqlalchemy import Connection, Engine, TextClause, create_engine, event
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.exc import DBAPIError, TimeoutError

from app.db import scope
from app.db.trouble import is_of_the_server, trouble
from app.errors import Unavailable

# A lost server must be noticed by the process that waits for it, well within a lease (30 s).
_TCP = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}

# Every statement of the hot path finds its rows by index, whatever the tables hold. Planning one anew costs
# as much as running it, so each is planned once; and since that plan may be made while a table is empty and
# run when it holds a million rows, nothing but nested index lookups may come out of it.
_LOOKUPS_ONLY = (
    " -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c enable_bitmapscan=off"
    " -c enable_hashjoin=off -c enable_mergejoin=off"
)


_COPY_BYTES = 256 * 1024

_BY_TRANSACTION = "headrace_scoped_by_transaction"

_POOLER = ("pooler", "transaction")
"""In a database URL: a pooler that gives each transaction any connection is in front of Postgres."""


def make_engine(
    url: SecretStr,
    *,
    pool_size: int = 2,
    statement_timeout_s: float = 10.0,
    lookups_only: bool = False,
    application_name: str = "headrace",
    scoped: bool = False,
) -> Engine:
    """An engine whose statements end within `statement_timeout_s` and whose idle transactions are cut.

    Each connection autocommits: a verb is one statement, or says `with transaction(...)`.
    `lookups_only` is for the hot path of API and workers, see `_LOOKUPS_ONLY`. `scoped`: its role sees the
    rows of those tenants that `app/db/scope.py` says it works for. Behind a pooler (`pooler=transaction` in
    the URL) the limits are the role's, nothing is prepared, and what is scoped is always a transaction.
    """
    options = (
        f"-c statement_timeout={int(statement_timeout_s * 1000)}"
        f" -c lock_timeout={int(statement_timeout_s * 500)}"
        " -c idle_in_transaction_session_timeout=30000 -c timezone=UTC -c jit=off"
    )
    if lookups_only:
        options += _LOOKUPS_ONLY
    pooled = is_pooled(url.get_secret_value())
    if pooled:
        # What a connection is told or has prepared stays with the pooler, for whoever comes next. So nothing
        # is: the role's settings hold these limits, see docs/guides/operate.md.
        own: dict[str, Any] = {"prepare_threshold": None}
    else:
        own = {"options": options}
    engine = create_engine(
        sqlalchemy_url(url.get_secret_value()),
        isolation_level="AUTOCOMMIT",
        pool_size=pool_size,
        max_overflow=0,
        # The connection used last has its statements prepared and its plans warm.
        pool_use_lifo=True,
        pool_timeout=statement_timeout_s,
        # An error's text must not hold what a client sent.
        hide_parameters=True,
        # Cached statements keep their text; psycopg prepares them on the server after five uses.
        connect_args={**_TCP, **own, "application_name": application_name},
        json_deserializer=orjson.loads,
        json_serializer=lambda value: orjson.dumps(value).decode(),
        execution_options={_BY_TRANSACTION: scoped and pooled},
    )
    if scoped and not pooled:
        scope.say_at_checkout(engine)

    @event.listens_for(engine, "handle_error")
    def drop_pool_on_disconnect(context: Any) -> None:
        if isinstance(context.original_exception, ReadOnlySqlTransaction):
            # It has become a standby, or was never anything else: the next connection may reach the primary.
            context.is_disconnect = True
        # After a restart of Postgres every pooled connection is dead: one error tells us of all.
        if context.is_disconnect:
            context.invalidate_pool_on_disconnect = True

    return engine


def sqlalchemy_url(url: str) -> str:
    """A libpq URL in SQLAlchemy's spelling, with the driver named."""
    scheme, _, rest = url.partition("://")
    if scheme not in ("postgresql", "postgres"):
        raise ValueError("the database URL must start with postgresql://")
    place, _, query = rest.partition("?")
    options = [pair for pair in parse_qsl(query) if pair != _POOLER]
    server, slash, database = place.partition("/")
    login, at, hosts = server.rpartition("@")
    if "," in hosts:
        place = login + at + slash + database
        options += [("host", host) for host in hosts.split(",")]
    known = urlencode(options)
    return f"postgresql+psycopg://{place}{'?' if known else ''}{known}"


def is_pooled(url: str) -> bool:
    """Whether this URL says `pooler=transaction`: PgBouncer's transaction mode is in front of Postgres."""
    return _POOLER in parse_qsl(url.partition("?")[2])


@contextmanager
def connect(engine: Engine) -> Iterator[Connection]:
    """A connection in autocommit. Raises `Unavailable` when Postgres can't be reached or just went away."""
    if engine.get_execution_options().get(_BY_TRANSACTION):
        with transaction(engine) as connection:
            yield connection
    else:
        with translate_errors(), engine.connect() as connection:
            yield connection


def rows(engine: Engine, statement: TextClause, parameters: Mapping[str, Any]) -> Sequence[Any]:
    """The rows of one statement, as named tuples, in autocommit. Errors as in `connect`.

    For the verbs' own statements: by way of SQLAlchemy the driver takes twice to three times the CPU.
    """
    with connect(engine) as connection:
        cursor = connection.connection.cursor(row_factory=namedtuple_row)
        try:
            return cursor.execute(_as_the_driver_has_it(statement), parameters).fetchall()
        except psycopg.Error as error:
            gone = engine.dialect.is_disconnect(error, connection.connection, cursor)  # type: ignore[arg-type]
            lost = gone or isinstance(error, ReadOnlySqlTransaction)
            if lost:
                # As below: one error tells of every pooled connection.
                connection.invalidate(error)
                engine.dispose(close=False)
            raise DBAPIError.instance(
                None, None, error, psycopg.Error, hide_parameters=True, connection_invalidated=lost
            ) from error


@cache
def _as_the_driver_has_it(statement: TextClause) -> str:
    return str(statement.compile(dialect=PGDialect_psycopg()))


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction: committed at the end, rolled back on an exception. Errors as in `connect`."""
    with translate_errors(), engine.connect() as connection:
        connection = connection.execution_options(isolation_level="READ COMMITTED")
        with connection.begin():
            if engine.get_execution_options().get(_BY_TRANSACTION):
                scope.say_in_transaction(connection)
            yield connection


def copy_in(connection: Connection, statement: str, rows: Iterable[str]) -> None:
    """Run `COPY … FROM STDIN` with these rows, each in COPY's text format without its newline."""
    cursor = connection.connection.cursor()
    try:
        with cursor.copy(statement) as copy:
            for part in _parts(rows):
                copy.write(part)
    except psycopg.Error as error:
        if is_of_the_server(error):
            raise trouble(error) from error
        raise
    finally:
        cursor.close()


def _parts(rows: Iterable[str]) -> Iterator[bytes]:
    held: list[str] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row)
        if size > _COPY_BYTES:
            yield ("\n".join(held) + "\n").encode()
            held, size = [], 0
    if held:
        yield ("\n".join(held) + "\n").encode()


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn the server's own troubles into `Unavailable`; every other error is a bug and passes through,
    without the values that Postgres quotes: who catches it may show it anywhere, as Celery does in Flower.
    """
    try:
        yield
    except TimeoutError as error:
        raise Unavailable("no database connection became free in time") from error
    except DBAPIError as error:
        if error.connection_invalidated or is_of_the_server(error.orig):
            raise trouble(error.orig) from error
        if isinstance(error.orig, psycopg.Error):
            error.args = (_forget_values(error.orig),)
        raise
    except psycopg.Error as error:  # of COPY
        _forget_values(error)
        raise


def _forget_values(error: psycopg.Error) -> str:
    """Have the error say its code and what it is about: no row, no value. Returns what it says now."""
    told = error.diag
    state = error.sqlstate or "no code"
    # These speak of the statement, or are our functions' own.
    said = told.message_primary if state.startswith(("42", "P0")) else None
    named = filter(None, (state, told.table_name, told.column_name, told.constraint_name, said))
    error.args = (" ".join(named),)
    return str(error.args[0])


def sqlstate(error: Unavailable) -> str | None:
    """Postgres's code for why, if it said so itself."""
    cause = error.__cause__
    return getattr(getattr(cause, "orig", cause), "sqlstate", None)
