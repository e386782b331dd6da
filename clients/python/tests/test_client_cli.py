"""The command line: what is printed where, and with which exit code."""

import json
import os
import re
import signal
import subprocess
import sys

import pytest
from click.testing import CliRunner
from client_testkit import JOB_ID, LoopbackServer, Reply, Script, job, problem
from headrace.cli import output
from headrace.cli.root import cli


@pytest.fixture
def run(live):
    def invoke(*args, stdin=None):
        return CliRunner().invoke(cli, args, input=stdin)

    return invoke


def _submit(run, *options):
    return run("submit", "echo", '{"text": "hi"}', *options)


def test_submit_prints_the_id_alone(run):
    done = _submit(run)
    assert done.exit_code == 0
    assert re.fullmatch(r"job_[0-9a-f]{32}\n", done.stdout)
    assert done.stderr == ""


@pytest.mark.parametrize("wait", [["--wait"], ["--wait", "30"], ["--wait=30"]])
def test_submit_and_wait_prints_the_output_alone(run, wait):
    done = _submit(run, *wait)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"text": "hi"}
    assert done.stderr == ""


def test_wait_without_a_number_does_not_take_the_next_word(run):
    done = run("submit", "--wait", "echo", "--wait", "-i", "text=hi")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"text": "hi"})


@pytest.mark.parametrize("source", ["argument", "file", "stdin", "pairs"])
def test_the_input_has_four_sources(run, source, tmp_path):
    value = {"text": "hi = ä", "n": 3, "deep": [1, {"x": None}]}
    text = json.dumps(value, ensure_ascii=False)
    (tmp_path / "input.json").write_text(text, encoding="utf-8")
    pairs = [f"text={value['text']}", "n:=3", 'deep:=[1, {"x": null}]']
    arguments = {
        "argument": [text],
        "file": ["--input-file", "input.json"],
        "stdin": ["-"],
        "pairs": [word for pair in pairs for word in ("-i", pair)],
    }
    done = run("submit", "echo", *arguments[source], "--wait", stdin=text)
    assert json.loads(done.stdout) == value


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit", "echo"], "give the input once"),
        (["submit", "echo", "{}", "-i", "a=1"], "give the input once"),
        (["submit", "echo", '{"a": '], "not JSON: Expecting value (line 1, column 7)"),
        (["submit", "echo", '{"a": NaN}'], "NaN is no number"),
        (["submit", "echo", "[" * 100_000], "nested too deep"),
        (["submit", "echo", "-i", "a"], "'a' is not key=value"),
        (["submit", "echo", "-i", "a:=x"], "for text write a=x"),
        (["submit", "echo", "{}", "--metadata", "=v"], "is not key=value"),
        (["submit", "echo", "{}", "--wait=soon"], "'soon' is not a valid float"),
        (["submit", "echo", "{}", "--wait", "nan"], "nan is no number of seconds"),
        (["wait", JOB_ID, "--timeout", "nan"], "nan is no number of seconds"),
        (["submit", "echo", "{}", "--idempotency-key", "ü"], "printable ASCII"),
        (["submit", "echo", "--input-file", "none.json"], "none.json"),
        (["get", "file_1"], "'file_1' is not a job's id (job_…)"),
        (["list", "--status", "done"], "--status"),
        (["nonsense"], "nonsense"),
    ],
)
def test_bad_usage_is_one_line_and_2(run, arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_bad_input_by_the_servers_word_names_the_field_and_is_2(run):
    done = run("submit", "echo", "[1]")
    assert done.exit_code == 2
    assert done.stderr == "headrace: 422 invalid_input: /input: must be an object (request req_7)\n"


def test_an_api_error_is_3(run):
    done = run("submit", "unknown", "{}")
    assert done.exit_code == 3
    assert done.stderr.startswith("headrace: 404 model_not_found: no model unknown")


def test_a_wrong_key_is_3_and_stays_unsaid(run):
    done = run("--api-key", "hr_x_wrong", "models")
    assert done.exit_code == 3
    assert "401" in done.stderr
    assert "wrong" not in done.stderr


def test_nobody_there_is_3(monkeypatch):
    with LoopbackServer(Script()) as gone:
        url = gone.url
    monkeypatch.setattr("headrace.cli.session._MAX_RETRIES", 0)
    done = CliRunner().invoke(cli, ["--url", url, "--api-key", "k", "models"])
    assert done.exit_code == 3
    hint = "headracectl up starts a development stack"
    assert done.stderr == f"headrace: can't reach {url}: Connection refused ({hint})\n"


def test_nothing_configured_is_2():
    done = CliRunner().invoke(cli, ["models"])
    assert done.exit_code == 2
    assert "set HEADRACE_URL" in done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_a_failed_job_is_1(run, as_json):
    options = ["--json"] if as_json else []
    done = run("submit", "echo", '{"fail": true}', "--wait", *options)
    assert done.exit_code == 1
    assert "failed: model_error: as asked" in done.stderr
    assert (json.loads(done.stdout)["status"] == "failed") if as_json else (done.stdout == "")


@pytest.mark.parametrize("as_json", [False, True])
def test_a_wait_that_times_out_is_4_and_names_the_job(run, as_json):
    options = ["--json"] if as_json else []
    done = run("submit", "echo", '{"stuck": true}', "--wait", "0", *options)
    assert done.exit_code == 4
    assert re.search(r"is still queued( \(\w+\))? after 0 s", done.stderr)
    assert (json.loads(done.stdout)["status"] == "queued") if as_json else (done.stdout == "")
    job_id = done.stderr.split()[1]
    assert run("wait", job_id, "--timeout", "0", *options).exit_code == 4


def test_wait_prints_the_output(run):
    job_id = _submit(run).stdout.strip()
    done = run("wait", job_id)
    assert json.loads(done.stdout) == {"text": "hi"}
    assert json.loads(run("wait", job_id, "--json").stdout)["status"] == "succeeded"


def test_get_shows_what_is_set(run):
    job_id = _submit(run, "--metadata", "team=search").stdout.strip()
    shown = run("get", job_id).stdout
    assert f"{job_id}\n" in shown
    assert '{"team": "search"}' in shown
    assert "batch_id" not in shown
    assert json.loads(run("get", job_id, "--json").stdout)["metadata"] == {"team": "search"}


def test_list_is_a_table_or_jsonl(run):
    ids = [_submit(run).stdout.strip() for _ in range(3)]
    shown = run("list").stdout
    assert shown.splitlines()[0].split() == ["ID", "STATUS", "MODEL", "CREATED"]
    assert [line.split()[0] for line in shown.splitlines()[1:]] == ids[::-1]
    lines = run("list", "--json", "--limit", "2").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines] == ids[:0:-1]
    assert run("list", "--json", "--status", "failed").stdout == ""


def test_a_limit_may_be_any_number(run):
    job_id = _submit(run).stdout.strip()
    assert job_id in run("list", "--limit", "9" * 30).stdout


def test_list_sends_its_filters(scripted):
    scripted.then(Reply(body={"data": [], "has_more": False}))
    words = "list --status failed --model m --limit 7 --after job_1 --metadata a=b"
    times = ["--created-after", "2026-01-01T00:00:00Z", "--created-before", "2026-02-01T00:00:00Z"]
    assert CliRunner().invoke(cli, [*words.split(), *times]).exit_code == 0
    assert scripted.requests[0].query == {
        "status": "failed",
        "model": "m",
        "limit": "7",
        "after": "job_1",
        "metadata[a]": "b",
        "created_after": "2026-01-01T00:00:00Z",
        "created_before": "2026-02-01T00:00:00Z",
    }


def test_submit_sends_its_options(scripted):
    scripted.then(Reply(202, job()))
    words = "submit m {} --priority high --metadata a=b --webhook https://h.example --idempotency-key k"
    limits = "--queue-ttl 60 --execution-timeout 2.5 --max-attempts 1 --use-case nightly"
    assert CliRunner().invoke(cli, f"{words} {limits}".split()).exit_code == 0
    (sent,) = scripted.requests
    assert sent.headers["Idempotency-Key"] == "k"
    assert sent.json == {
        "model": "m",
        "input": {},
        "priority": "high",
        "metadata": {"a": "b"},
        "webhook": "https://h.example",
        "policy": {"queue_ttl_s": 60, "execution_timeout_s": 2.5},
        "retry": {"max_attempts": 1},
        "use_case": "nightly",
    }


def test_cancel_retry_delete(run):
    job_id = _submit(run).stdout.strip()
    assert run("cancel", job_id).stdout == f"{job_id} canceled\n"
    again = run("retry", job_id).stdout.strip()
    assert again not in ("", job_id)
    assert run("delete", job_id).stdout == f"{job_id} deleted\n"
    assert json.loads(run("get", job_id, "--json").stdout)["input"] is None
    for command in ("cancel", "retry", "delete"):
        assert json.loads(run(command, again, "--json").stdout)["id"].startswith("job_")


def test_tail_follows_to_the_end(run):
    job_id = _submit(run).stdout.strip()
    done = run("tail", job_id)
    assert done.exit_code == 0
    assert json.loads(done.stdout) == {"text": "hi"}
    assert done.stderr.splitlines() == ["status running", "progress 50%", "completed succeeded"]
    lines = [json.loads(line) for line in run("tail", job_id, "--json").stdout.splitlines()]
    assert [line["event"] for line in lines] == ["status", "progress", "completed"]


def test_tail_of_a_job_that_fails_is_1(run):
    job_id = run("submit", "echo", '{"fail": true}').stdout.strip()
    assert run("tail", job_id).exit_code == 1
    assert run("tail", job_id, "--json").exit_code == 1


def test_models_and_workers(run):
    assert run("models").stdout.split() == ["MODEL", "VERSION", "DESCRIPTION", "echo", "1"]
    assert json.loads(run("models", "--json").stdout)[0]["id"] == "echo"
    assert run("workers").stdout.splitlines()[1].split()[:4] == ["w@h/0", "default", "spot", "ready"]
    assert json.loads(run("workers", "--json").stdout)[0]["pool"] == "default"


def test_what_others_wrote_does_not_steer_the_terminal(scripted):
    evil = "\x1b]0;owned\x07\x9b31m\nheadrace: ok\u202e"
    scripted.then(Reply(body=job("failed", error={"code": "x", "message": evil})))
    done = CliRunner().invoke(cli, ["wait", "job_1"])
    assert done.exit_code == 1
    assert done.stderr.count("\n") == 1
    assert not set("\x1b\x07\x9b\u202e") & set(done.stderr)
    scripted.then(Reply(body=job("succeeded", output={"text": evil + "\ud800"})))
    done = CliRunner().invoke(cli, ["wait", "job_1"])
    assert not set("\x1b\x07\x9b\u202e") & set(done.stdout)
    assert json.loads(done.stdout) == {"text": evil + "\ud800"}


def test_an_error_of_the_server_stays_on_one_line(scripted):
    scripted.then(problem(400, "bad", "first\nsecond"))
    done = CliRunner().invoke(cli, ["get", "job_1"])
    assert done.stderr == "headrace: 400 bad: first second (request req_7)\n"


def test_long_values_are_cut_for_eyes():
    cut = output._shortened({"embedding": list(range(384)), "text": "x" * 500, "n": [1]})
    assert cut["embedding"] == [*range(8), "… 376 more"]
    assert cut["text"].endswith("… 100 more characters")
    assert cut["n"] == [1]


@pytest.mark.parametrize(
    "command",
    [["submit", "echo", "{}", "--wait"], ["wait", JOB_ID], ["tail", JOB_ID], ["tail", JOB_ID, "--json"]],
)
def test_ctrl_c_names_the_job_that_goes_on(scripted, command):
    def interrupt(_):
        signal.raise_signal(signal.SIGINT)
        return Reply(body=job("running"))

    scripted.then(Reply(body=job("queued")), interrupt, *[Reply(body=job("running"))] * 5)
    done = CliRunner().invoke(cli, command)
    assert (done.exit_code, done.stdout) == (130, "")
    how = f"headrace wait {JOB_ID}; or end it: headrace cancel {JOB_ID}"
    assert done.stderr == f"headrace: interrupted; {JOB_ID} goes on ({how})\n"


def test_a_closed_pipe_is_no_failed_job(live):
    """`headrace models | head -0`, with pipefail."""
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "models", "--json"]
    reads, writes = os.pipe()
    os.close(reads)
    done = subprocess.run(command, stdout=writes, stderr=subprocess.PIPE, timeout=60)
    os.close(writes)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a disk that is always full")
def test_a_full_disk_is_one_line_and_3(live):
    command = [sys.executable, "-c", "from headrace.cli import main; main()", "models", "--json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, timeout=60)
    assert (done.returncode, done.stderr) == (3, b"headrace: No space left on device\n")


def test_version_and_help():
    assert CliRunner().invoke(cli, ["--version"]).stdout == "headrace 0.1.0\n"
    help_ = CliRunner().invoke(cli, ["--help"])
    assert help_.exit_code == 0
    assert "tail" in help_.stdout
    bare = CliRunner().invoke(cli, [])
    assert bare.exit_code == 2
    assert "Commands:" in bare.stderr


def test_as_a_process(live, key):
    command = [sys.executable, "-c", "from headrace.cli import main; main()"]
    done = subprocess.run(
        [*command, "submit", "echo", "-", "--wait"],
        input=b'{"text": "\xc3\xa4"}',
        capture_output=True,
        env=os.environ | {"HEADRACE_URL": live.url, "HEADRACE_API_KEY": key},
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(done.stdout) == {"text": "ä"}
