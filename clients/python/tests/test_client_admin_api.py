"""`client.tenants`, `client.keys`, `client.audit`: what is sent, and what is never sent twice."""

import threading
from datetime import UTC, datetime

import pytest
from admin_testkit import NOON, api_key, line, tenant
from client_testkit import Reply, page, problem
from headrace import APIConnectionError, APITimeoutError, Client, ConflictError, ServerError

MOMENT = datetime(2026, 1, 31, 12, tzinfo=UTC)
KEY = "hr_Abc123_S3cret"


def sent(script):
    return [(request.method, request.path) for request in script.requests]


def test_a_tenants_life(client, script):
    script.then(
        Reply(201, tenant(weight=3, queued_jobs=7)),
        Reply(body=tenant()),
        Reply(body=tenant(weight=2)),
        Reply(body=tenant(disabled_at=NOON)),
        Reply(body=tenant()),
    )
    made = client.tenants.create("acme", weight=3, queued_jobs=7, stored_bytes=None)
    assert (made.id, made.weight, made.queued_jobs, made.stored_bytes) == ("acme", 3, 7, None)
    assert (made.requests_per_minute, made.key_requests_per_minute, made.in_flight_jobs) == (None,) * 3
    assert (made.created_at, made.disabled, made.disabled_at) == (MOMENT, False, None)
    assert client.tenants.get("acme") == made
    assert client.tenants.update("acme", weight=2).weight == 2
    disabled = client.tenants.disable("acme")
    assert (disabled.disabled, disabled.disabled_at) == (True, MOMENT)
    assert not client.tenants.enable("acme").disabled
    assert sent(script) == [
        ("POST", "/v1/tenants"),
        ("GET", "/v1/tenants/acme"),
        *[("PATCH", "/v1/tenants/acme")] * 3,
    ]
    assert [request.json for request in script.requests if request.body] == [
        {"id": "acme", "weight": 3, "queued_jobs": 7, "stored_bytes": None},
        {"weight": 2},
        {"disabled": True},
        {"disabled": False},
    ]


def test_a_limit_of_none_is_sent_and_one_that_is_not_given_is_not(client, script):
    script.then(Reply(body=tenant()))
    client.tenants.update("acme", queued_jobs=None, stored_bytes=0)
    assert script.requests[0].json == {"queued_jobs": None, "stored_bytes": 0}


def test_a_limit_that_there_is_not_is_refused_before_it_is_sent(client, script):
    for act in (client.tenants.create, client.tenants.update):
        with pytest.raises(TypeError, match="no such limit: queued_job"):
            act("acme", queued_job=7)
    assert script.requests == []


def test_a_keys_life(client, script):
    script.then(
        Reply(201, api_key(key=KEY, name="backend", expires_at=NOON, requests_per_minute=0)),
        Reply(201, api_key("Def456", key="hr_Def456_S3cret")),
        Reply(201, api_key("Def456", key="hr_Def456_S3cret")),
        Reply(body=api_key(live=False, revoked_at=NOON, last_used_at=NOON)),
    )
    made = client.keys.create(
        "acme", name="backend", scopes=("jobs:read", "jobs:write"), expires_at=MOMENT, requests_per_minute=0
    )
    assert (made.id, made.key, made.tenant, made.name) == ("Abc123", KEY, "acme", "backend")
    assert (made.scopes, made.live, made.requests_per_minute) == (["jobs:read", "jobs:write"], True, 0)
    assert (made.created_at, made.expires_at, made.revoked_at, made.last_used_at) == (
        MOMENT,
        MOMENT,
        None,
        None,
    )
    assert client.keys.rotate("Abc123").id == "Def456"
    assert client.keys.rotate("Abc123", grace_period_seconds=0, expires_at=MOMENT).key == "hr_Def456_S3cret"
    revoked = client.keys.revoke("Abc123")
    assert (revoked.live, revoked.revoked_at, revoked.last_used_at) == (False, MOMENT, MOMENT)
    assert (revoked, revoked.key) == (made, None)
    assert sent(script) == [
        ("POST", "/v1/tenants/acme/keys"),
        *[("POST", "/v1/keys/Abc123/rotate")] * 2,
        ("POST", "/v1/keys/Abc123/revoke"),
    ]
    assert [request.json for request in script.requests[:3]] == [
        {
            "name": "backend",
            "scopes": ["jobs:read", "jobs:write"],
            "expires_at": NOON,
            "requests_per_minute": 0,
        },
        {},
        {"grace_period_seconds": 0, "expires_at": NOON},
    ]


def test_a_key_that_is_asked_for_nothing_gets_the_servers_defaults(client, script):
    script.then(*[Reply(201, api_key(key=KEY))] * 3)
    client.keys.create("acme")
    client.keys.create("acme", scopes="admin")
    client.keys.create("acme", scopes=[])
    assert [request.json for request in script.requests] == [{}, {"scopes": ["admin"]}, {"scopes": []}]


def test_no_repr_has_a_secret(client, script):
    script.then(Reply(201, api_key(key=KEY)))
    made = client.keys.create("acme")
    assert repr(made) == "ApiKey('Abc123', tenant='acme')"
    assert "S3cret" not in repr([made, vars(client), client.keys])


def test_lists_come_page_by_page(client, script):
    def pages(*items):
        return [Reply(body=page([*items[:2]]) | {"has_more": True}), Reply(body=page([*items[2:]]))]

    script.then(*pages(tenant("c"), tenant("b"), tenant("a")))
    assert [one.id for one in client.tenants.list()] == ["c", "b", "a"]
    script.then(*pages(api_key("c"), api_key("b"), api_key("a")))
    assert [one.id for one in client.keys.list("acme", limit=3)] == ["c", "b", "a"]
    script.then(*pages(line(3), line(2), line(1)))
    (newest, _, _) = client.audit.list(action="keys", after="9")
    assert (newest.id, newest.at, newest.actor) == ("3", MOMENT, "key:test")
    assert (newest.action, newest.subject, newest.details) == ("keys.create", "Abc123", {"tenant": "acme"})
    assert repr(newest) == "AuditLine('3', 'keys.create', 'Abc123')"
    assert [(request.path, request.query) for request in script.requests] == [
        ("/v1/tenants", {"limit": "100"}),
        ("/v1/tenants", {"limit": "100", "after": "b"}),
        ("/v1/tenants/acme/keys", {"limit": "3"}),
        ("/v1/tenants/acme/keys", {"limit": "1", "after": "b"}),
        ("/v1/audit", {"limit": "100", "action": "keys", "after": "9"}),
        ("/v1/audit", {"limit": "100", "action": "keys", "after": "2"}),
    ]


MAKERS = [lambda keys: keys.create("acme"), lambda keys: keys.rotate("Abc123")]


@pytest.mark.parametrize("make", MAKERS)
def test_a_key_whose_secret_was_lost_is_never_followed_by_another(client, script, make):
    script.then(Reply(drop=True), *[problem(status, "away", retryable=True) for status in (502, 503, 504)])
    with pytest.raises(APIConnectionError):
        make(client.keys)
    for _ in range(3):
        with pytest.raises(ServerError):
            make(client.keys)
    assert len(script.requests) == 4


@pytest.mark.parametrize("make", MAKERS)
def test_a_late_answer_is_a_lost_one(server, script, key, clock, make):
    gone = threading.Event()

    def late(_):
        gone.wait(10)
        return Reply(201, api_key(key=KEY))

    script.then(late)
    with pytest.raises(APITimeoutError):
        make(Client(server.url, key, timeout=0.2, clock=clock.as_clock()).keys)
    gone.set()
    assert len(script.requests) == 1
    assert clock.sleeps == []


@pytest.mark.parametrize("make", MAKERS)
def test_what_was_refused_is_sent_again(client, script, make):
    script.then(problem(429, "too_many_requests", retryable=True), Reply(201, api_key(key=KEY)))
    assert make(client.keys).key == KEY
    assert len(script.requests) == 2


@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.tenants.create("acme"),
        lambda client: client.tenants.get("acme"),
        lambda client: client.tenants.update("acme", weight=2),
        lambda client: client.tenants.disable("acme"),
        lambda client: client.tenants.enable("acme"),
        lambda client: client.keys.revoke("Abc123"),
    ],
)
def test_what_is_safe_to_repeat_is_repeated(client, script, ask):
    script.then(Reply(drop=True), Reply(body=tenant()))
    ask(client)
    first, second = script.requests
    assert (first.path, first.body) == (second.path, second.body)


def test_a_tenant_that_exists_is_nobodys_success(client, script):
    """It may be what the first try made, or a stranger's: only its name is known."""
    script.then(Reply(drop=True), problem(409, "tenant_exists"))
    with pytest.raises(ConflictError) as caught:
        client.tenants.create("acme")
    assert caught.value.code == "tenant_exists"


@pytest.mark.parametrize("stray", ["", ".", "..", "acme/keys", "../audit"])
def test_a_stray_name_never_becomes_another_path(client, script, stray):
    for act in (client.tenants.get, client.tenants.update, client.tenants.disable, client.keys.create):
        with pytest.raises(ValueError, match="is not a tenant's name"):
            act(stray)
    with pytest.raises(ValueError, match="is not a tenant's name"):
        client.keys.list(stray)
    assert script.requests == []


def test_a_name_is_quoted(client, script):
    script.then(Reply(body=tenant()))
    client.tenants.get("a b?c#d%2Fe")
    assert script.requests[0].path == "/v1/tenants/a%20b%3Fc%23d%252Fe"


@pytest.mark.parametrize("stray", ["", "..", "Abc123/rotate", "é", KEY])
def test_a_whole_key_goes_into_no_path_and_no_error(client, script, stray):
    for act in (client.keys.revoke, client.keys.rotate):
        with pytest.raises(ValueError, match="the middle part of hr_<id>_<secret>") as caught:
            act(stray)
        assert "S3cret" not in str(caught.value)
    assert script.requests == []
