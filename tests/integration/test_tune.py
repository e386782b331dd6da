"""`headracectl models tune`: measured on real processes, refused or registered in a real registry."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from app.cli import main
from app.db import models
from app.intake.source import spec_of
from tests.support import torch_models
from tests.support.jobs import Queue

SOURCE = Path(torch_models.__file__)
Headracectl = Callable[..., Result]

pytestmark = pytest.mark.torch


@pytest.fixture
def headracectl(database_url: str, tmp_path: Path) -> Headracectl:
    environ = {
        "HEADRACE_DATABASE_URL": database_url,
        "HEADRACE_REDIS_URL": "redis://nowhere",
        "HEADRACE_SECRET_KEY": "s" * 32,
        "HEADRACE_STATE_DIR": str(tmp_path),
        "COLUMNS": "250",
    }
    return lambda *arguments: CliRunner().invoke(main, ["models", *arguments], env=environ)


def registered(queue: Queue, name: str) -> None:
    models.register(queue.engine, spec_of(f"{SOURCE}:{name}"), actor="test")


QUICK = ("--variants", "bf16,int8", "--rounds", "1", "--min-speedup", "0", "--json")


def test_the_best_becomes_a_version_of_its_own_and_the_current_one_when_asked(
    queue: Queue, headracectl: Headracectl
) -> None:
    registered(queue, "Classes")
    tuned = headracectl("tune", "classes", "--variants", "bf16", "--min-similarity", "0.99", *QUICK[2:])
    assert tuned.exit_code == 0, tuned.output
    report = json.loads(tuned.stdout)
    assert [trial["verdict"] for trial in report["trials"]] == ["passed", "passed"]
    assert all(trial["rss_mb"] > 0 and trial["size_mb"] > 0 for trial in report["trials"])
    assert report["registered"] == "classes@1-bf16"
    found = models.find(queue.engine, "classes", "1-bf16")
    assert found is not None
    assert found.spec.variant == "bf16"
    current = models.find(queue.engine, "classes", None)
    assert current is not None
    assert current.spec.version == "1"
    assert headracectl("use", "classes@1-bf16").exit_code == 0
    current = models.find(queue.engine, "classes", None)
    assert current is not None
    assert current.id == found.id
    again = headracectl("tune", "classes")
    assert again.exit_code == 1
    assert "is a variant already" in again.output


def test_what_answers_something_else_is_refused_and_not_registered(
    queue: Queue, headracectl: Headracectl
) -> None:
    registered(queue, "Coarse")
    report = json.loads(headracectl("tune", "coarse", "--variants", "int8", *QUICK[2:]).stdout)
    assert [trial["verdict"] for trial in report["trials"]] == ["passed", "refused"]
    assert report["chosen"] is None
    assert models.find(queue.engine, "coarse", "1-int8") is None


def test_a_variant_that_kills_its_process_is_a_row_of_the_table(
    queue: Queue, headracectl: Headracectl
) -> None:
    registered(queue, "DiesQuantized")
    report = json.loads(headracectl("tune", "dies-quantized", "--no-register", *QUICK).stdout)
    _, bf16, int8 = report["trials"]
    assert bf16["error"] is None
    assert "killed by signal 9" in int8["error"]
    assert report["registered"] is None


def test_a_model_without_torch_modules_says_what_it_lacks(
    queue: Queue, headracectl: Headracectl, tmp_path: Path
) -> None:
    sample = tmp_path / "sample.jsonl"
    sample.write_text('{"n": 1}\n')
    tuned = headracectl("tune", "echo", "--sample", str(sample), "--variants", "bf16", *QUICK[2:])
    assert "assign it in load()" in json.loads(tuned.stdout)["trials"][1]["error"]
    without = headracectl("tune", "echo")
    assert without.exit_code == 1
    assert "give --sample FILE.jsonl" in without.output


def test_unknown_variants_are_named(queue: Queue, headracectl: Headracectl) -> None:
    refused = headracectl("tune", "echo", "--variants", "int2")
    assert refused.exit_code == 1
    assert "'int2' is none of bf16" in refused.output


def test_children_and_threads_are_measured_and_the_best_are_named(
    queue: Queue, headracectl: Headracectl
) -> None:
    registered(queue, "Classes")
    done = headracectl("slots", "classes", "--cores", "2", "--rounds", "1", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert [(each["children"], each["threads"]) for each in report["measured"]] == [(1, 2), (2, 1)]
    assert report["chosen"] in report["measured"]
    missing = headracectl("slots", "nobody")
    assert missing.exit_code == 1
    assert "there is no model nobody" in missing.output
