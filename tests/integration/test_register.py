"""`headracectl models register` says what really happened, each in a line of its own."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.db.health import OLD_SCHEMA
from tests.support.models import EXAMPLES

ECHO = f"{EXAMPLES / 'echo.py'}:Echo"


def register(database_url: str, *arguments: str) -> Result:
    environ = {
        "HEADRACE_DATABASE_URL": database_url,
        "HEADRACE_REDIS_URL": "redis://nowhere",
        "HEADRACE_SECRET_KEY": "s" * 32,
    }
    return CliRunner().invoke(main, ["models", "register", *arguments], env=environ)


def test_a_database_that_is_away_or_empty_is_not_the_models_fault(empty_database_url: str) -> None:
    away = register("postgresql://nobody@127.0.0.1:1/nowhere", ECHO)
    assert away.exit_code == 1
    assert away.output.startswith("Error: the database is not reachable: ")
    empty = register(empty_database_url, ECHO)
    assert (empty.exit_code, empty.output) == (1, f"Error: {OLD_SCHEMA}\n")


@pytest.mark.parametrize("options", [[], ["--traceback"]])
def test_the_author_of_a_file_that_fails_is_shown_his_line(options: list[str], tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import json\n\njson.loads('{')\n")
    result = register("postgresql://nobody@127.0.0.1:1/nowhere", *options, f"{file}:Mine")
    *before, last = result.stderr.splitlines()
    assert (result.exit_code, result.stdout) == (1, "")
    assert last.startswith(f"Error: invalid_model: {file} can't be imported: JSONDecodeError: Expecting")
    assert last.endswith(f"({file}:3)")
    assert ("Traceback (most recent call last):" in before) == bool(options)
    assert any("json/decoder.py" in line for line in before) == bool(options)
