"""Whether Postgres answers, and whether it is our schema that answers."""

from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from app.db.engine import connect

OLD_SCHEMA = "the schema is missing or older than this code: run `headracectl migrate`"


def trouble(engine: Engine) -> str | None:
    """Why this database can't be worked with, or None. Raises `Unavailable` if it can't be reached."""
    try:
        with connect(engine) as connection:
            connection.execute(text("SELECT FROM jobs, webhook_queue LIMIT 0"))
    except ProgrammingError:
        return OLD_SCHEMA
    return None


def is_of_old_schema(error: Exception) -> bool:
    """Whether Postgres knows no table or no column of a statement's."""
    return getattr(getattr(error, "orig", None), "sqlstate", None) in ("42P01", "42703")
