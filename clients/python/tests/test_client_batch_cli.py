"""`headrace files` and `headrace batch`: what is printed where, and with which exit code."""

import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from batch_testkit import batch, jsonl, result
from click.testing import CliRunner
from client_testkit import Reply
from headrace import Batch
from headrace.cli import progress
from headrace.cli.root import cli

COMMAND = [sys.executable, "-c", "from headrace.cli import main; main()"]


@pytest.fixture
def run(live):
    def invoke(*args, stdin=None):
        return CliRunner().invoke(cli, args, input=stdin)

    return invoke


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(jsonl({"text": str(n)} for n in range(20)))
    return "in.jsonl"


@pytest.fixture
def mixed(tmp_path):
    """A good line, a bad one, and one whose job fails."""
    (tmp_path / "mixed.jsonl").write_text('{"text": "a"}\nno JSON\n{"fail": true}\n')
    return "mixed.jsonl"


def _lines(text):
    return [json.loads(line) for line in text.splitlines()]


def test_files_go_up_and_come_down(run, texts):
    name = run("files", "upload", texts, "--expires-after", "3600").stdout.strip()
    assert re.fullmatch("file_[0-9a-f]{32}", name)
    content = Path(texts).read_bytes()
    assert run("files", "download", name).stdout_bytes == content
    done = run("files", "download", name, "-o", "copy.jsonl")
    assert (done.exit_code, done.output) == (0, "")
    assert Path("copy.jsonl").read_bytes() == content
    assert run("files", "list").stdout.splitlines()[1].split()[:4] == [name, "batch", "290", "in.jsonl"]
    assert _lines(run("files", "list", "--json").stdout)[0]["id"] == name
    assert "sha256" in run("files", "get", name).stdout
    assert run("files", "delete", name).stdout == f"{name} deleted\n"
    assert run("files", "get", name).exit_code == 3
    again = run("files", "upload", "-", "--json", stdin=content)
    assert json.loads(again.stdout)["bytes"] == 290
    media = run("files", "upload", texts, "--purpose", "vision", "--json")
    assert json.loads(media.stdout)["purpose"] == "vision"
    for purpose in ("vision", "user_data", "job_output"):
        assert run("files", "list", "--purpose", purpose).exit_code == 0


def test_a_run_writes_the_results_and_says_how_far_it_is(run, texts):
    done = run("batch", "run", texts, "--model", "echo")
    assert done.exit_code == 0
    assert [line["response"]["body"]["output"]["text"] for line in _lines(done.stdout)] == [
        str(n) for n in range(20)
    ]
    assert done.stderr == "validating 0%\ncompleted 100% 20/20 done\n"
    done = run("batch", "run", texts, "--model", "echo", "-o", "out.jsonl", "--json")
    assert json.loads(done.stdout)["status"] == "completed"
    assert [line["custom_id"] for line in _lines(Path("out.jsonl").read_text())] == [
        str(n) for n in range(1, 21)
    ]
    assert not Path("out.jsonl.part").exists()


def test_lines_that_fail_go_where_they_should_and_are_1(run, mixed):
    words = ["batch", "run", mixed, "--model", "echo", "--on-invalid", "skip"]
    done = run(*words, "-o", "out.jsonl", "--errors", "err.jsonl")
    assert done.exit_code == 1
    assert done.stdout == ""
    assert re.search(
        r"headrace: (batch_\w+): 1 of 2 jobs did not succeed, 1 line is wrong: headrace batch errors \1\n",
        done.stderr,
    )
    assert [line["custom_id"] for line in _lines(Path("out.jsonl").read_text())] == ["1"]
    assert [line["error"]["code"] for line in _lines(Path("err.jsonl").read_text())] == [
        "invalid_json_line",
        "model_error",
    ]
    assert len(_lines(run(*words).stdout)) == 3


def test_a_refused_file_is_2_and_names_its_wrong_lines(run, mixed):
    done = run("batch", "run", mixed, "--model", "echo", "-o", "out.jsonl")
    assert done.exit_code == 2
    last = done.stderr.splitlines()[-1]
    assert re.fullmatch(r"headrace: batch_\w+ failed: line 2: invalid_json_line: is not JSON", last)
    assert not Path("out.jsonl").exists()
    name = last.split()[1]
    assert run("batch", "errors", name).stdout.startswith("line 2: invalid_json_line: is not JSON\n")
    assert _lines(run("batch", "errors", name, "--json").stdout)[0]["error"]["line"] == 2


@pytest.mark.parametrize("content", ['[{"text": "a"},\n{"text": "b"}]\n', "text\na\n"])
def test_a_file_of_another_kind_is_told_what_a_file_is(run, tmp_path, content):
    (tmp_path / "file").write_text(content)
    done = run("batch", "run", "file", "--model", "echo")
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.endswith("one JSON value a line, as jq -c '.[]' writes those of an array\n")


def test_a_dry_run_prints_the_estimate(run, texts, mixed):
    done = run("batch", "run", texts, "--model", "echo", "--dry-run")
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"valid": 20, "invalid": 0, "models": {"echo": 20}, "seconds": 1.5}
    done = run("batch", "run", mixed, "--model", "echo", "--dry-run")
    assert done.exit_code == 2
    assert json.loads(done.stdout)["invalid"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-o", "nowhere/out.jsonl"], "there is no folder 'nowhere'"),
        (["-o", "out.jsonl", "--errors", "nowhere/err.jsonl"], "there is no folder 'nowhere'"),
        (["-o", "/dev/null"], "'/dev/null' is no ordinary file"),
        (["-o", "./in.jsonl"], "-o would overwrite FILE"),
        (["-o", "out.jsonl", "--errors", "out.jsonl"], "--errors would overwrite -o"),
    ],
)
def test_results_that_could_not_be_written_are_refused_before_anything_runs(run, texts, options, message):
    done = run("batch", "run", texts, "--model", "echo", *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr
    assert run("batch", "list", "--json").stdout == ""
    assert run("files", "list", "--json").stdout == ""
    assert os.listdir() == [texts]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["batch", "run", "in.jsonl", "--model", "m"], "interrupted; nothing runs yet"),
        (["files", "upload", "in.jsonl"], "interrupted; no file was made"),
    ],
)
def test_ctrl_c_while_uploading_says_that_nothing_came_of_it(scripted, texts, command, message):
    def interrupt(_):
        signal.raise_signal(signal.SIGINT)
        return Reply(503)

    scripted.then(*[interrupt] * 3)
    done = CliRunner().invoke(cli, command)
    assert (done.exit_code, done.stdout) == (130, "")
    assert message in done.stderr


def test_detached_is_looked_after_later(run, texts):
    name = run("batch", "run", texts, "--model", "echo", "--detach", "--metadata", "a=b").stdout.strip()
    assert re.fullmatch("batch_[0-9a-f]{32}", name)
    done = run("batch", "status", name, "--watch")
    assert done.exit_code == 0
    assert "completed" in done.stdout
    assert done.stderr == "completed 100% 20/20 done\n"
    assert json.loads(run("batch", "status", name, "--json").stdout)["metadata"] == {"a": "b"}
    assert len(_lines(run("batch", "results", name).stdout)) == 20
    assert run("batch", "results", name, "-o", "out.jsonl").stdout == ""
    assert len(_lines(Path("out.jsonl").read_text())) == 20
    assert run("batch", "list").stdout.splitlines()[1].split()[:3] == [name, "completed", "20/20"]
    assert _lines(run("batch", "list", "--json", "--limit", "1").stdout)[0]["id"] == name


def test_cancel_and_retry(run, texts, mixed):
    name = run("batch", "run", texts, "--model", "echo", "--detach").stdout.strip()
    assert run("batch", "cancel", name).stdout == f"{name} cancelled\n"
    assert run("batch", "status", name, "--watch").exit_code == 1
    run("batch", "run", mixed, "--model", "echo", "--on-invalid", "skip")
    (failed, *_) = _lines(run("batch", "list", "--json", "--limit", "1").stdout)
    made = run("batch", "retry", failed["id"]).stdout.strip()
    assert json.loads(run("batch", "status", made, "--json").stdout)["retry_of"] == failed["id"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["batch", "run", "none.jsonl"], "'none.jsonl' does not exist"),
        (["batch", "run", "in.jsonl"], "say for which model"),
        (["batch", "run", "in.jsonl", "--model", "echo", "--json"], "--json needs -o FILE"),
        (["batch", "run", "in.jsonl", "--model", "echo", "--webhook", "x"], "the URL must look like"),
        (["batch", "status", "job_1"], "'job_1' is not a batch's id (batch_…)"),
        (["files", "get", "job_1"], "'job_1' is not a file's id (file_…)"),
        (["files", "upload", "in.jsonl", "--idempotency-key", "ü"], "printable ASCII"),
    ],
)
def test_bad_usage_is_one_line_and_2(run, texts, arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def _on_a_terminal(*words):
    """The command with stderr on a terminal; (exit code, what it printed, what the terminal showed)."""
    mine, its = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, *words], stdout=subprocess.PIPE, stderr=its, env={**os.environ, "COLUMNS": "200"}
    ) as process:
        os.close(its)
        shown = b""
        while True:
            try:
                piece = os.read(mine, 65_536)
            except OSError:
                break
            if not piece:
                break
            shown += piece
        printed = process.stdout.read()
    os.close(mine)
    return process.returncode, printed, shown.decode()


def test_on_a_terminal_there_is_a_bar_and_stdout_has_the_results_alone(live, texts, monkeypatch):
    monkeypatch.setenv("TERM", "xterm")
    code, printed, shown = _on_a_terminal("batch", "run", texts, "--model", "echo")
    assert code == 0
    assert len(_lines(printed.decode())) == 20
    assert "\x1b[" in shown
    assert "completed" in shown
    assert "20/20 done" in shown


def test_ctrl_c_leaves_the_batch_running_and_says_how_to_go_on(scripted, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "a"}\n')
    made = batch("in_progress", counts={"queued": 5})
    scripted.then(Reply(body={"id": "file_1", "object": "file"}))
    process = None

    def interrupt(_):
        process.send_signal(signal.SIGINT)
        return Reply(body=made)

    scripted.then(Reply(body=made), interrupt, *[Reply(body=made)] * 20)
    process = subprocess.Popen(
        [*COMMAND, "batch", "run", "in.jsonl", "--model", "m", "-o", "out.jsonl"],
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    last = said.splitlines()[-1]
    assert last.startswith(f"headrace: interrupted; {made['id']} goes on")
    assert f"headrace batch status {made['id']} --watch" in last
    assert not any("cancel" in sent.path for sent in scripted.requests)
    assert os.listdir(tmp_path) == ["in.jsonl"]


def test_a_running_batch_is_told_in_few_words_and_only_when_they_change(capsys):
    counts = {"queued": 3_700, "running": 64, "succeeded": 1_234, "errored": 2}
    told = batch("in_progress", counts=counts, invalid=1)
    told["progress"] |= {"rate_per_s": 812.4, "eta_s": 4.6}
    told["cost"] = {"amount": "0.0012", "currency": "USD"}
    show = progress._Lines()
    for _ in range(3):
        show(Batch(told, None))
    assert capsys.readouterr().err == (
        "in_progress 25% 1,236/5,000 done, 1 wrong, 2 failed, 64 running, 3,700 queued, 812/s, 5 s left,"
        " 0.0012 USD\n"
    )
    assert [progress.duration(s) for s in (0, 59.6, 125, 11_220)] == ["0 s", "1:00", "2:05", "3:07:00"]


def test_a_part_of_a_file_is_never_left_under_its_name(scripted, tmp_path, monkeypatch):
    monkeypatch.setattr("headrace.cli.session._MAX_RETRIES", 0)
    cut = jsonl([result("1"), result("2", number=2)])[:-10]
    scripted.then(Reply(pieces=[cut], headers={"Content-Length": "10000"}))
    (tmp_path / "out.jsonl").write_text("before")
    done = CliRunner().invoke(cli, ["batch", "results", "batch_1", "-o", "out.jsonl"])
    assert done.exit_code == 3
    assert (tmp_path / "out.jsonl").read_text() == "before"
