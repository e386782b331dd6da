"""Every example in the docstrings and in the README runs."""

import doctest
import importlib
import pkgutil
import re
import shlex
from pathlib import Path

import headrace
import pytest
from click.testing import CliRunner
from headrace import Client
from headrace.cli.root import cli

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
MODULES = [
    importlib.import_module(found.name) for found in pkgutil.walk_packages(headrace.__path__, "headrace.")
]


def _examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    for module in MODULES:
        yield from (found for found in finder.find(module) if found.examples)


@pytest.mark.parametrize("example", list(_examples()), ids=lambda example: example.name)
def test_docstring(example, live):
    with Client() as client:
        for _ in range(2):
            client.run("echo", {})
        example.globs["client"] = client
        report: list[str] = []
        failed, _ = doctest.DocTestRunner().run(example, out=report.append)
    assert not failed, "".join(report)


def test_the_readmes_python_runs(live, capsys, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\nno JSON\n')
    blocks = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    scope: dict[str, object] = {}
    for block in blocks:
        exec(block, scope)
    said = capsys.readouterr().out
    assert "model_error" in said
    assert "text-999 {'text': '999'}" in said
    assert "2 invalid_json_line" in said


def test_the_readmes_commands_run(live, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"text": "a"}\n')
    commands = re.findall(r"^\$ headrace (.*)$", README, re.MULTILINE)
    assert len(commands) == 12
    for command in commands:
        done = CliRunner().invoke(cli, shlex.split(command))
        assert done.exit_code == 0, f"{command}: {done.output}"
