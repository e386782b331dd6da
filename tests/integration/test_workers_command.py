"""`headracectl workers`: what operators see of workers, and having them leave."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from tests.support.jobs import Queue


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "HEADRACE_DATABASE_URL": database_url,
        "HEADRACE_REDIS_URL": "redis://nowhere",
        "HEADRACE_SECRET_KEY": "s" * 32,
        "HEADRACE_STATE_DIR": str(tmp_path),
        "COLUMNS": "200",
    }


def test_workers_are_shown_and_told_to_leave_by_name_or_pool(
    queue: Queue, environment: dict[str, str]
) -> None:
    def headracectl(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["workers", *arguments], env=environment)

    for name, pool in (("a@host/0", "one"), ("a@host/1", "one"), ("b@host/0", "two"), ("c@host/0", "two")):
        queue.worker(name=name, pool=pool)
    assert "a@host/1" in headracectl().output
    assert json.loads(headracectl("drain", "a@host/1", "--json").output) == {
        "draining": ["a@host/0", "a@host/1"]
    }, "a child leaves with its whole worker"
    assert headracectl("drain", "--pool", "two", "--within", "90").output.split() == ["b@host/0", "c@host/0"]
    shown = {row["name"]: row for row in json.loads(headracectl("--json").output)}
    assert {row["state"] for row in shown.values()} == {"draining"}
    assert shown["a@host/0"]["drain_until"] is None
    assert shown["b@host/0"]["drain_until"]


@pytest.mark.parametrize("arguments", [["drain"], ["drain", "a", "--pool", "b"], ["drain", "nobody"]])
def test_who_is_told_has_to_be_said(queue: Queue, environment: dict[str, str], arguments: list[str]) -> None:
    assert queue
    result = CliRunner().invoke(main, ["workers", *arguments], env=environment)
    assert result.exit_code != 0
    assert "Error: " in result.output
