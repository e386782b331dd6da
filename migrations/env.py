"""Alembic's entry point. Safe by default: a migration that can't get its lock gives up instead of
queueing every other statement behind it; two migrators never run at the same time.
"""

import time

from alembic import context
from sqlalchemy import create_engine, pool, text

from app.db.engine import sqlalchemy_url
from app.db.tables import metadata

# Any fixed number; it names "migrations of Headrace" among the advisory locks of this database.
LOCK = 0x48454144
ASK_AGAIN_S = 0.2


def include_object(_object, name, type_, reflected, compare_to):  # type: ignore[no-untyped-def]
    """Partitions are made by maintenance, not by migrations: leave them out of comparisons."""
    return not (type_ == "table" and reflected and compare_to is None and "_p" in (name or ""))


def run() -> None:
    engine = create_engine(sqlalchemy_url(context.config.attributes["database_url"]), poolclass=pool.NullPool)
    with engine.connect() as guard:
        # Asked again and again, since whoever waits in a statement is waited for by an index that is made
        # concurrently, and so by the one that holds the lock.
        while not guard.execute(text("SELECT pg_try_advisory_lock(:lock)"), {"lock": LOCK}).scalar_one():
            guard.commit()
            time.sleep(ASK_AGAIN_S)
        guard.commit()
        try:
            with engine.connect() as connection:
                connection.execute(text("SET lock_timeout = '4s'"))
                connection.execute(text("SET statement_timeout = '60s'"))
                connection.commit()
                context.configure(
                    connection=connection,
                    target_metadata=metadata,
                    transaction_per_migration=True,
                    include_object=include_object,
                    compare_type=True,
                    compare_server_default=True,
                )
                with context.begin_transaction():
                    context.run_migrations()
        finally:
            guard.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": LOCK})
            guard.commit()


run()
