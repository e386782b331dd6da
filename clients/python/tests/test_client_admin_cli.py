"""`headrace tenants`, `keys` and `audit`: what is printed where, and with which exit code."""

import json
import signal
import threading
from datetime import UTC, datetime, timedelta

import pytest
from admin_testkit import NOON, api_key, line, tenant
from click.testing import CliRunner
from client_testkit import Reply, page, problem
from headrace.cli.root import cli

KEY = "hr_Abc123_S3cret"


def run(*args):
    return CliRunner().invoke(cli, args)


def rows(*args):
    """The cells of a table, without its head."""
    done = run(*args)
    assert done.exit_code == 0, done.output
    return [row.split() for row in done.stdout.splitlines()[1:]]


def test_a_tenant_is_made_shown_changed_and_listed(live):
    done = run("tenants", "create", "acme", "--weight", "3", "--limit", "queued_jobs=7")
    assert (done.exit_code, done.stderr) == (0, "")
    shown = dict(row.split(maxsplit=1) for row in done.stdout.splitlines())
    assert shown == {"id": "acme", "weight": "3", "queued_jobs": "7", "created_at": NOON}
    assert run("tenants", "show", "acme").stdout == done.stdout
    changed = run("tenants", "update", "acme", "--limit", "queued_jobs=default", "--limit", "stored_bytes=0")
    assert "queued_jobs" not in changed.stdout
    assert rows("tenants", "list")[0][:8] == ["acme", "enabled", "3", "-", "-", "-", "-", "0"]
    assert [row[0] for row in rows("tenants", "list", "--limit", "1")] == ["acme"]
    assert run("tenants", "disable", "acme").stdout == "acme disabled\n"
    assert rows("tenants", "list")[0][1] == "disabled"
    assert json.loads(run("tenants", "enable", "acme", "--json").stdout)["disabled_at"] is None
    assert [json.loads(one)["id"] for one in run("tenants", "list", "--json").stdout.splitlines()] == [
        "acme",
        "default",
    ]
    again = run("tenants", "create", "acme")
    assert (again.exit_code, again.stdout) == (3, "")
    assert "there is a tenant of this name already" in again.stderr


def test_a_key_is_alone_on_stdout_and_told_once(live):
    done = run("keys", "create", "default", "--name", "backend", "--scope", "jobs:read")
    assert (done.exit_code, done.stdout, done.stderr) == (0, "hr_Key0_S3cret\n", "")
    made = json.loads(run("keys", "create", "default", "--json").stdout)
    assert (made["id"], made["key"]) == ("Key1", "hr_Key1_S3cret")
    assert run("keys", "rotate", "Key1", "--grace-period", "60").stdout == "hr_Key2_S3cret\n"
    again = run("keys", "rotate", "Key1")
    assert (again.exit_code, again.stdout) == (3, "")
    assert "the key Key1 was rotated before" in again.stderr
    late = run("keys", "rotate", "Key1", "--expires-days", "7", "--json")
    assert json.loads(late.stdout)["key"] == "hr_Key3_S3cret"
    assert run("keys", "revoke", "Key3").stdout == "Key3 revoked\n"
    assert json.loads(run("keys", "revoke", "Key3", "--json").stdout)["live"] is False
    found = run("keys", "list", "default")
    assert [row.split()[0] for row in found.stdout.splitlines()[1:]] == ["Key3", "Key2", "Key1", "Key0"]
    assert rows("keys", "list", "default")[-1][:3] == ["Key0", "backend", "yes"]
    assert rows("keys", "list", "default")[0][:3] == ["Key3", "-", "no"]
    lines = run("keys", "list", "default", "--json").stdout
    assert len(lines.splitlines()) == 4
    assert "S3cret" not in found.stdout + lines + run("audit").stdout


def test_what_a_key_is_asked_for_is_sent(scripted):
    scripted.then(*[Reply(201, api_key(key=KEY))] * 2, Reply(201, api_key(key=KEY)))
    run("keys", "create", "acme")
    run("keys", "create", "acme", "--scope", "admin", "--requests-per-minute", "0", "--expires-days", "30")
    run("keys", "rotate", "Abc123", "--grace-period", "0")
    nothing, everything, rotation = (request.json for request in scripted.requests)
    assert (nothing, rotation) == ({}, {"grace_period_seconds": 0})
    left = datetime.fromisoformat(everything.pop("expires_at")) - datetime.now(UTC)
    assert timedelta(days=29) < left <= timedelta(days=30)
    assert everything == {"scopes": ["admin"], "requests_per_minute": 0}


def test_the_audit_log_is_a_table_or_jsonl(scripted):
    steered = line(details={"tenant": "a\x1b[31m\nb"})
    scripted.then(*[Reply(body=page([steered, line(2, details={})]))] * 2)
    done = run("audit", "--action", "keys", "--after", "9", "--limit", "7")
    head, first, second = done.stdout.splitlines()
    assert head.split() == ["AT", "ACTOR", "ACTION", "SUBJECT", "DETAILS"]
    assert first.split()[2:5] == ["key:test", "keys.create", "Abc123"]
    assert second.split()[-1] == "-"
    assert "\x1b" not in done.stdout
    assert [json.loads(one)["id"] for one in run("audit", "--json").stdout.splitlines()] == ["1", "2"]
    assert scripted.requests[0].query == {"action": "keys", "after": "9", "limit": "7"}


LOST = "a key may have been made: see headrace audit --action keys, and revoke it"


@pytest.mark.parametrize("command", [["keys", "create", "acme"], ["keys", "rotate", "Abc123"]])
@pytest.mark.parametrize("reply", [Reply(drop=True), problem(503, "unavailable", retryable=True)])
def test_a_lost_answer_is_one_line_that_says_how_to_find_the_key(scripted, command, reply):
    scripted.then(reply)
    done = run(*command)
    assert (done.exit_code, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert LOST in done.stderr
    assert len(scripted.requests) == 1


def test_so_is_an_interrupted_one(scripted):
    def interrupt(_):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        return Reply(drop=True)

    scripted.then(interrupt)
    done = run("keys", "create", "acme")
    assert (done.exit_code, done.stdout) == (130, "")
    assert done.stderr == f"headrace: interrupted; {LOST}\n"


def test_a_refused_one_is_not_lost(scripted):
    scripted.then(problem(403, "missing_scope", "needs the scope admin"))
    done = run("keys", "create", "acme")
    assert (done.exit_code, done.stderr) == (
        3,
        "headrace: 403 missing_scope: needs the scope admin (request req_7)\n",
    )


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["tenants", "create", "a/b"], "'a/b' is not a tenant's name"),
        (["tenants", "create", "acme", "--limit", "jobs=7"], "'jobs' is no limit; there are requests_per"),
        (["tenants", "create", "acme", "--limit", "queued_jobs=many"], "queued_jobs must be a whole number"),
        (["tenants", "create", "acme", "--limit", "queued_jobs"], "queued_jobs must be a whole number"),
        (["tenants", "update", "acme"], "give what to change"),
        (["keys", "create", "acme", "--scope", "jobs"], "'jobs' is not one of"),
        (["keys", "revoke", KEY], "the middle part of hr_<id>_<secret>"),
        (["keys", "list", ".."], "'..' is not a tenant's name"),
    ],
)
def test_what_was_typed_wrong_is_2_and_not_sent(scripted, args, told):
    done = run(*args)
    assert (done.exit_code, done.stdout) == (2, "")
    assert told in done.stderr
    assert "S3cret" not in done.stderr
    assert scripted.requests == []


def test_what_is_wrong_for_the_server_is_2_too(scripted):
    wrong = {"pointer": "/weight", "code": "out_of_range", "message": "must be at least 1"}
    scripted.then(problem(422, "invalid_request", "1 field is wrong", errors=[wrong]))
    done = run("tenants", "update", "acme", "--weight", "0")
    assert done.exit_code == 2
    assert "/weight: must be at least 1" in done.stderr


def test_a_json_tenant_is_what_was_sent(scripted):
    scripted.then(*[Reply(body=tenant(brand_new=1))] * 3)
    for command in (["create", "acme"], ["show", "acme"], ["update", "acme", "--weight", "1"]):
        assert json.loads(run("tenants", *command, "--json").stdout) == tenant(brand_new=1)
