"""What every `headracectl` command shares: tables that can be used, errors that say what to do."""

import io
import json
from datetime import UTC, datetime
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.commands.common import show

ROW = {
    "id": "XyEjYNR6kNlQ",
    "name": "the key of the [/nightly] run, which has a long name, longer than all others",
    "at": datetime(2026, 1, 31, 12, 0, 5, 123456, UTC),
    "scopes": ["jobs:read", "jobs:write"],
    "details": {"grace": None},
    "model": None,
    "note": "red\x1b[31m",
}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def headracectl(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, env=environ)


def test_in_a_pipe_no_cell_is_cut_and_none_steers_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    show([ROW], list(ROW), as_json=False)
    columns, cells = capsys.readouterr().out.splitlines()
    assert columns.split() == list(ROW)
    for text in (
        ROW["name"],
        "2026-01-31 12:00:05Z",
        "jobs:read, jobs:write",
        '{"grace": null}',
        "red\ufffd[31m",
    ):
        assert str(text) in cells


def test_times_in_json_are_those_of_the_api(capsys: pytest.CaptureFixture[str]) -> None:
    show([ROW], ["id"], as_json=True)
    (row,) = json.loads(capsys.readouterr().out)
    assert row["at"] == "2026-01-31T12:00:05.123456Z"
    assert row["details"] == {"grace": None}


def test_on_a_terminal_what_names_a_row_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    show([ROW], ["id", "note", "details", "at", "scopes"], as_json=False)
    shown = click.unstyle(terminal.getvalue())
    assert max(map(len, shown.splitlines())) <= 60
    assert "XyEjYNR6kNlQ" in shown


def test_without_a_stack_one_line_says_what_to_run(tmp_path: Path) -> None:
    done = headracectl("doctor", "--state-dir", str(tmp_path))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"no stack in {tmp_path}: run `headracectl up`, or set HEADRACE_DATABASE_URL\n"


def test_a_database_that_is_not_there_is_named_without_its_password() -> None:
    done = headracectl(
        "keys",
        "list",
        HEADRACE_DATABASE_URL="postgresql://operator:s3cret@127.0.0.1:1/headrace",
        HEADRACE_REDIS_URL="redis://nowhere",
        HEADRACE_SECRET_KEY="s" * 32,
    )
    assert (done.exit_code, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert 'server at "127.0.0.1", port 1 failed: Connection refused' in done.stderr
    assert "s3cret" not in done.output


def test_help_and_version_are_as_those_of_the_other_command() -> None:
    assert headracectl("-h").output == headracectl("--help").output
    assert headracectl("--version").output == "headracectl 0.1.0\n"
