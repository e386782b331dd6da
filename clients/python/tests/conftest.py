"""Fixtures of the client's tests: a real HTTP server on loopback, a stopped clock, a client."""

import pytest
from admin_testkit import FakeAdmin
from batch_testkit import FakeBatches
from client_testkit import FakeHeadrace, LoopbackServer, Script, StoppedClock
from headrace import Client
from webhook_testkit import FakeWebhooks

KEY = "hr_test_s3cret-of-the-key"


@pytest.fixture(autouse=True)
def _no_ambient_server(monkeypatch, tmp_path):
    """What the developer's shell or folder is set to must not decide a test."""
    for name in ("HEADRACE_URL", "HEADRACE_API_KEY", "HEADRACE_STATE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def key():
    return KEY


@pytest.fixture
def clock():
    return StoppedClock()


@pytest.fixture
def script():
    """The answers to come, in order, and the requests that got them."""
    return Script()


@pytest.fixture
def server(script):
    with LoopbackServer(script) as running:
        yield running


@pytest.fixture
def client(server, clock):
    with Client(server.url, KEY, clock=clock.as_clock()) as made:
        yield made


@pytest.fixture
def headrace():
    """A server with the behaviour of the real one, in small."""
    fake = FakeHeadrace(KEY, FakeWebhooks(), FakeBatches(), FakeAdmin())
    with LoopbackServer(fake) as running:
        fake.url = running.url
        yield fake


@pytest.fixture
def live(headrace, monkeypatch):
    """The environment of a user of that server."""
    monkeypatch.setenv("HEADRACE_URL", headrace.url)
    monkeypatch.setenv("HEADRACE_API_KEY", KEY)
    return headrace


@pytest.fixture
def scripted(monkeypatch, key):
    """A server that answers by script, and the command that talks to it."""
    script = Script()
    with LoopbackServer(script) as server:
        monkeypatch.setenv("HEADRACE_URL", server.url)
        monkeypatch.setenv("HEADRACE_API_KEY", key)
        yield script
