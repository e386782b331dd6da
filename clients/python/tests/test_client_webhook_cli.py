"""`headrace webhooks …`: what is printed where, and with which exit code."""

import json
import re

import pytest
from click.testing import CliRunner
from client_testkit import Reply, job, page, problem
from headrace.cli.root import cli
from webhook_testkit import NOON, attempt, delivery, endpoint

URL = "https://example.com/hook"
WHK = "whk_" + "0" * 32
DLV = "dlv_" + "0" * 32


@pytest.fixture
def run(live):
    """A command of `headrace webhooks`."""

    def invoke(*args):
        return CliRunner().invoke(cli, ["webhooks", *args])

    return invoke


def _run(*args):
    return CliRunner().invoke(cli, ["webhooks", *args])


def _made(run, *options):
    return json.loads(run("create", URL, "--json", *options).stdout)


def test_create_prints_the_secret_once(run):
    done = run("create", URL, "--events", "job.started, job.completed", "--description", "mine")
    assert (done.exit_code, done.stderr) == (0, "")
    assert re.search(r"^id +whk_[0-9a-f]{32}$", done.stdout, re.MULTILINE)
    assert re.search(r"^secret +whsec_\S{44}$", done.stdout, re.MULTILINE)
    assert re.search(r'^events +\["job.started", "job.completed"\]$', done.stdout, re.MULTILINE)
    made = _made(run)
    assert made["secret"].startswith("whsec_")
    for options in ([], ["--json"]):
        assert "whsec_" not in run("show", made["id"], *options).stdout


def test_list_is_a_table_or_jsonl(run):
    ids = [_made(run)["id"] for _ in range(3)]
    shown = run("list").stdout.splitlines()
    assert shown[0].split() == ["ID", "STATUS", "EVENTS", "URL", "CREATED"]
    assert [line.split()[:4] for line in shown[1:]] == [
        [one, "enabled", "job.completed", URL] for one in ids[::-1]
    ]
    lines = run("list", "--json", "--limit", "2").stdout.splitlines()
    assert [json.loads(line)["id"] for line in lines][:2] == ids[:0:-1]


def test_update_changes_what_is_given(scripted):
    scripted.then(*[Reply(body=endpoint(status="disabled"))] * 3)
    assert "disabled" in _run("update", WHK, "--disable").stdout
    assert json.loads(_run("update", WHK, "--enable", "--json").stdout)["status"] == "disabled"
    _run("update", WHK, "--url", URL, "--events", "job.started", "--description", "")
    assert [request.json for request in scripted.requests] == [
        {"status": "disabled"},
        {"status": "enabled"},
        {"url": URL, "events": ["job.started"], "description": ""},
    ]


def test_delete(run):
    made = _made(run)["id"]
    assert run("delete", made).stdout == f"{made} deleted\n"
    assert run("delete", made).exit_code == 3
    assert json.loads(run("delete", _made(run)["id"], "--json").stdout)["deleted"] is True


def test_a_secret_is_alone_on_stdout(scripted):
    rotated = endpoint(secret="whsec_new", previous_secret_expires_at=NOON)
    scripted.then(*[Reply(body=rotated)] * 6)
    assert _run("rotate-secret", WHK, "--grace-period", "60").stdout == "whsec_new\n"
    assert _run("secret").stdout == "whsec_new\n"
    assert _run("secret", "--rotate", "--grace-period", "0").stdout == "whsec_new\n"
    assert json.loads(_run("rotate-secret", WHK, "--json").stdout) == rotated
    for options in ([], ["--rotate"]):
        shown = json.loads(_run("secret", "--json", *options).stdout)
        assert shown == {"secret": "whsec_new", "previous_secret_expires_at": NOON}
    sent = [(r.method, r.path, r.body) for r in scripted.requests[:3]]
    assert sent == [
        ("POST", f"/v1/webhooks/{WHK}/rotate-secret", b'{"grace_period_seconds":60}'),
        ("GET", "/v1/webhooks/default/secret", b""),
        ("POST", "/v1/webhooks/default/rotate-secret", b'{"grace_period_seconds":0}'),
    ]


@pytest.mark.parametrize(("count", "told"), [(1, "1 delivery is"), (7, "7 deliveries are")])
def test_recover_says_how_many(scripted, count, told):
    scripted.then(*[Reply(202, {"count": count})] * 2)
    assert _run("recover", WHK, "--since", NOON).stdout == f"{told} queued again\n"
    shown = json.loads(_run("recover", WHK, "--since", NOON, "--json").stdout)
    assert shown == {"endpoint_id": WHK, "since": NOON, "count": count}


def test_a_test_that_arrived_is_0(scripted):
    scripted.then(*[Reply(202, delivery("delivered", attempt(204)))] * 2)
    done = _run("test", WHK)
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout == f"✓ {URL}: it answered 204 (12 ms)\n"
    assert json.loads(_run("test", WHK, "--json").stdout)["status"] == "delivered"


@pytest.mark.parametrize(
    ("code", "error", "told"),
    [
        (500, "http_status", "it answered 500, which is not a success (2xx)"),
        (302, "redirect", "it answered 302, and redirects are never followed: register the address"),
        (410, "gone", "it answered 410, so it is disabled now"),
        (None, "timeout", "it did not answer in time (15 s in all)"),
        (None, "connection_refused", "it refused the connection: nothing listens there"),
        (None, "connection_failed", "the connection broke"),
        (None, "dns", "its name leads nowhere (DNS)"),
        (None, "tls", "no TLS connection: is its certificate valid for this name?"),
        (None, "blocked", "the server must not call its address"),
        (None, "invalid_response", "what it answered is not HTTP"),
        (None, "sender_lost", "the sender was lost on the way"),
        (None, "brand_new", "it failed (brand_new)"),
    ],
)
@pytest.mark.parametrize("status", ["pending", "failed"])
def test_a_test_that_did_not_arrive_is_1_and_says_why(scripted, code, error, told, status):
    scripted.then(*[Reply(202, delivery(status, attempt(code, error)))] * 2)
    done = _run("test", WHK)
    assert done.exit_code == 1
    assert done.stdout.startswith(f"✗ {URL}: {told}")
    assert done.stdout.count("\n") == 1
    again = _run("test", WHK, "--json")
    assert (again.exit_code, json.loads(again.stdout)["status"]) == (1, status)


def test_a_test_that_was_canceled_is_1(scripted):
    scripted.then(Reply(202, delivery("canceled")))
    done = _run("test", WHK)
    assert (done.exit_code, done.stdout) == (1, f"{URL}: canceled, never tried\n")


def test_a_test_that_nobody_sends_is_4(scripted):
    scripted.then(*[Reply(202, delivery(id=DLV))] * 2)
    done = _run("test", WHK, "--timeout", "0")
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr == f"headrace: {DLV} is still pending after 0 s; is a sender running?\n"
    assert json.loads(_run("test", WHK, "--timeout", "0", "--json").stdout)["id"] == DLV


def test_a_disabled_endpoint_is_the_servers_word(scripted):
    scripted.then(problem(409, "endpoint_disabled", "it is disabled"))
    done = _run("test", WHK)
    assert (done.exit_code, done.stdout) == (3, "")
    assert "409 endpoint_disabled: it is disabled" in done.stderr


def test_deliveries_are_a_table_or_jsonl(scripted):
    found = [delivery("failed", id=DLV, error="timeout", event="job.completed", attempts=None)]
    scripted.then(*[Reply(body=page(found))] * 2)
    words = f"deliveries --status failed --endpoint {WHK} --job job_1 --event job.completed --limit 7"
    more = f"--after dlv_9 --created-after {NOON} --created-before {NOON}"
    shown = _run(*words.split(), *more.split()).stdout.splitlines()
    assert shown[0].split() == ["ID", "STATUS", "EVENT", "ERROR", "URL", "CREATED"]
    assert shown[1].split()[:5] == [DLV, "failed", "job.completed", "timeout", URL]
    assert scripted.requests[0].query == {
        "status": "failed",
        "endpoint_id": WHK,
        "job_id": "job_1",
        "event": "job.completed",
        "created_after": NOON,
        "created_before": NOON,
        "after": "dlv_9",
        "limit": "7",
    }
    (line,) = _run("deliveries", "--json").stdout.splitlines()
    assert json.loads(line) == found[0]


def test_a_delivery_shows_every_try(scripted):
    tries = [attempt(500, "http_status"), attempt(None, "timeout", attempt=2, latency_s=15.0)]
    found = delivery("pending", *tries, id=DLV)
    scripted.then(*[Reply(body=found)] * 2)
    shown = _run("delivery", DLV).stdout
    assert re.search(rf"^id +{DLV}$", shown, re.MULTILINE)
    first, second = shown.splitlines()[-2:]
    assert re.fullmatch(r"1 +\d+ \S+ ago +12 ms +it answered 500, which is not a success \(2xx\) *", first)
    assert re.fullmatch(r"2 +\d+ \S+ ago +15.0 s +it did not answer in time \(15 s in all\) *", second)
    assert "http_status" not in shown
    assert json.loads(_run("delivery", DLV, "--json").stdout) == found


def test_redeliver(scripted):
    scripted.then(*[Reply(202, delivery(id=DLV))] * 2)
    assert _run("redeliver", DLV).stdout == f"{DLV} pending\n"
    assert json.loads(_run("redeliver", DLV, "--json").stdout)["id"] == DLV


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["create"], "Missing argument 'URL'"),
        (["create", URL, "--events", "job.done"], "'job.done' is no event; there are job.started, job.comp"),
        (["create", URL, "--events", ""], "'' is no event"),
        (["show", "job_1"], "'job_1' is not a webhook endpoint's id (whk_…)"),
        (["delivery", WHK], "is not a delivery's id (dlv_…)"),
        (["update", WHK], "give what to change"),
        (["rotate-secret", WHK, "--grace-period", "-1"], "--grace-period"),
        (["secret", "--grace-period", "60"], "--grace-period goes with --rotate"),
        (["recover", WHK], "--since"),
        (["deliveries", "--status", "done"], "--status"),
    ],
)
def test_bad_usage_is_one_line_and_2(run, arguments, message):
    done = run(*arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_submit_says_where_to_call_back_and_for_what(scripted):
    scripted.then(Reply(202, job()))
    words = f"submit m {{}} --webhook {URL} --webhook-event started --webhook-event completed"
    assert CliRunner().invoke(cli, words.split()).exit_code == 0
    (sent,) = scripted.requests
    assert sent.json["webhook"] == URL
    assert sent.json["webhook_events_filter"] == ["started", "completed"]


def test_help_names_every_command():
    shown = _run("--help").stdout
    endpoints = "create list show update delete rotate-secret test recover secret"
    for command in f"{endpoints} deliveries delivery redeliver".split():
        assert re.search(rf"^  {command} ", shown, re.MULTILINE), command
