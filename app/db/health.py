"""Whether Postgres answers, and whether it is our schema that answers."""

from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from app.db.engine import connect


def trouble(engine: Engine) -> str | None:
    """Why this database can't be worked with, or None. Raises `Unavailable` if it can't be reached."""
    try:
        with connect(engine) as connection:
            connection.execute(text("SELECT FROM jobs, webhook_queue LIMIT 0"))
    except ProgrammingError:
        return "the schema is missing or older than this code: run `headracectl migrate`"
    return None
