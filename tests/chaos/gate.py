"""A gate in Postgres: whoever writes a table waits before it, so that it can be killed at that very point.

Nothing of it is in the code that is tested: a trigger waits for an advisory lock that the test holds.
"""

import contextlib
from collections.abc import Callable, Iterator

import psycopg

from tests.support.waiting import wait_until

_LOCK = 0x4741_5445


@contextlib.contextmanager
def gate(database_url: str, table: str, how: str = "INSERT") -> Iterator[Callable[[], list[int]]]:
    """Shut until the end of the block. Gives a function that waits for somebody to stand before it, and
    returns their backends' ids.
    """
    with psycopg.connect(database_url, autocommit=True) as keeper:
        keeper.execute("SELECT pg_advisory_lock(%s)", [_LOCK])
        keeper.execute(
            f"""
            CREATE OR REPLACE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                PERFORM pg_advisory_xact_lock_shared({_LOCK});
                RETURN NULL;
            END $$
            """
        )
        keeper.execute(
            f"CREATE OR REPLACE TRIGGER gate AFTER {how} ON {table}"
            " FOR EACH STATEMENT EXECUTE FUNCTION gate()"
        )

        def standing() -> list[int]:
            rows = keeper.execute(
                "SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND objid = %s AND NOT granted", [_LOCK]
            )
            return [pid for (pid,) in rows]

        try:
            yield lambda: wait_until(standing, 30, f"somebody to write {table}")
        finally:
            keeper.execute("SELECT pg_advisory_unlock(%s)", [_LOCK])
            keeper.execute(f"DROP TRIGGER gate ON {table}")
