"""Run the Alembic migrations from code: one transaction each, under an advisory lock, with timeouts."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from alembic import command
from alembic.config import Config
from pydantic import SecretStr
from sqlalchemy.exc import OperationalError

from app.db import partitions, roles
from app.db.engine import is_pooled, make_engine, transaction
from app.errors import SettingsError, Unavailable


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for this database; the scripts are those installed with the package."""
    import migrations

    if is_pooled(database_url):
        raise SettingsError(
            ["HEADRACE_DATABASE_URL: migrations need Postgres itself, so a URL without pooler=transaction"]
        )
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    # Not through set_main_option: a % in a password would be read as interpolation.
    config.attributes["database_url"] = database_url
    return config


def upgrade(database_url: str, revision: str = "head", api_url: str | None = None) -> None:
    """Bring the schema to `revision`. Safe to run from several processes at a time: they queue up.

    `api_url`: how the API connects, if by a role of its own. At the head it is given what it needs.
    """
    _run(lambda config: command.upgrade(config, revision), database_url)
    if revision == "head":
        _make_partitions(database_url)
        if api_url is not None:
            roles.admit(database_url, api_url)


def downgrade(database_url: str, revision: str) -> None:
    """Take the schema back to `revision` (`base` removes everything, data included)."""
    _run(lambda config: command.downgrade(config, revision), database_url)


def _make_partitions(database_url: str) -> None:
    engine = make_engine(SecretStr(database_url), application_name="headrace migrate")
    try:
        with transaction(engine) as connection:
            partitions.ensure(connection, datetime.now(UTC))
    finally:
        engine.dispose()


def _run(step: Callable[[Config], None], database_url: str) -> None:
    try:
        step(alembic_config(database_url))
    except OperationalError as error:
        raise Unavailable(f"the database is not reachable: {error.orig}") from error
