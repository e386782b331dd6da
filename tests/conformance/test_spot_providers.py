"""One suite, every provider of notices: each against a server that behaves as its cloud's does, and one that
does not. Nothing but loopback is called.
"""

import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from threading import Thread

import pytest

from app.settings import Settings, load
from tests.support.clouds import TROUBLES, Cloud, FakeAws, FakeAzure, FakeGcp, FakeMachine, serving
from tests.support.waiting import wait_until
from workers.spot.aws import Aws
from workers.spot.metadata import Metadata
from workers.spot.notice import Kind, Notice, Provider, Unreadable
from workers.spot.providers import choose

SERVERS: dict[str, type[Cloud]] = {"aws": FakeAws, "gcp": FakeGcp, "azure": FakeAzure}
TIMEOUT_S = 0.3


def settings_of(cloud: Cloud, **spot: str) -> Settings:
    told = {"provider": cloud.name, "timeout_s": str(TIMEOUT_S)}
    if isinstance(cloud, FakeMachine):
        told["local_file"] = str(cloud.file)
    else:
        told["metadata_url"] = cloud.url
    environ = {f"HEADRACE_SPOT_{name.upper()}": value for name, value in {**told, **spot}.items()}
    return load(
        {
            "HEADRACE_DATABASE_URL": "postgresql://nowhere/x",
            "HEADRACE_REDIS_URL": "redis://nowhere",
            "HEADRACE_SECRET_KEY": "s" * 32,
            **environ,
        }
    )


def provider_of(cloud: Cloud, **spot: str) -> Provider:
    provider = choose(settings_of(cloud, **spot))
    assert provider is not None
    return provider


@pytest.fixture(params=[*SERVERS, "local"])
def cloud(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cloud]:
    if request.param == "local":
        yield FakeMachine(tmp_path / "notice")
        return
    with serving(SERVERS[request.param]()) as served:
        yield served


@pytest.fixture(params=SERVERS)
def served(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    with serving(SERVERS[request.param]()) as cloud:
        yield cloud


@pytest.fixture
def aws() -> Iterator[FakeAws]:
    with serving(FakeAws()) as cloud:
        assert isinstance(cloud, FakeAws)
        yield cloud


@pytest.fixture
def azure() -> Iterator[FakeAzure]:
    with serving(FakeAzure()) as cloud:
        assert isinstance(cloud, FakeAzure)
        yield cloud


def interruption(provider: Provider) -> Notice:
    notice = provider.look()
    assert notice is not None
    assert notice.kind is Kind.INTERRUPTION
    return notice


def test_no_notice_is_none_and_a_notice_tells_how_much_time_is_left(cloud: Cloud) -> None:
    provider = provider_of(cloud)
    assert provider.look() is None
    cloud.interrupt(30)
    left_s = interruption(provider).left_s
    assert left_s is not None
    assert 28 <= left_s <= 30
    assert interruption(provider).left_s is not None, "asked again it says the same"
    cloud.withdraw()
    assert provider.look() is None
    provider.left()


@pytest.mark.parametrize("trouble", TROUBLES)
def test_whatever_is_wrong_with_the_server_is_no_notice_and_soon_over(served: Cloud, trouble: str) -> None:
    provider = provider_of(served)
    served.interrupt(30)
    served.trouble = trouble
    started = time.monotonic()
    with pytest.raises(Unreadable) as raised:
        provider.look()
    assert time.monotonic() - started < 8 * TIMEOUT_S
    assert "captive" not in str(raised.value), "what the server said is nobody's to log"
    served.trouble = None
    assert interruption(provider)


def test_trouble_after_a_calm_answer_is_seen_too(served: Cloud) -> None:
    provider = provider_of(served)
    assert provider.look() is None
    served.trouble = "error"
    with pytest.raises(Unreadable):
        provider.look()


def test_nobody_there_is_unreadable() -> None:
    with pytest.raises(Unreadable, match="no answer"):
        Aws(Metadata("http://127.0.0.1:1", TIMEOUT_S)).look()


def test_no_proxy_of_the_environment_is_asked(served: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert provider_of(served).look() is None


@pytest.mark.parametrize("hours", [-1, 1])
def test_a_wrong_clock_of_this_machine_does_not_matter(served: Cloud, hours: int) -> None:
    served.skew = timedelta(hours=hours)
    served.interrupt(30)
    left_s = interruption(provider_of(served)).left_s
    assert left_s is not None
    assert 28 <= left_s <= 30


def test_kubernetes_and_none_have_nothing_to_look_at() -> None:
    for name in ("kubernetes", "none"):
        assert choose(settings_of(Cloud("http://127.0.0.1:1"), provider=name)) is None


def test_aws_asks_with_a_token_and_renews_it(aws: FakeAws) -> None:
    clock = [0.0]
    provider = Aws(Metadata(aws.url, TIMEOUT_S), lambda: clock[0])
    assert provider.look() is None
    assert provider.look() is None
    assert aws.issued == 1
    aws.tokens.clear()
    assert provider.look() is None, "a token that ended before its time is renewed within the look"
    assert aws.issued == 2
    clock[0] += 6 * 3600
    assert provider.look() is None
    assert aws.issued == 3, "and one that is old before it ends"


def test_aws_hibernation_begins_at_once(aws: FakeAws) -> None:
    aws.action = {"action": "hibernate"}
    aws.interrupt(120)
    assert interruption(provider_of(aws)).left_s == 0


@pytest.mark.parametrize("action", [{"action": "dance"}, {"action": None}, {"action": ["stop"]}])
def test_aws_an_unknown_action_is_no_notice(aws: FakeAws, action: dict[str, object]) -> None:
    aws.action = action
    aws.interrupt(120)
    with pytest.raises(Unreadable):
        provider_of(aws).look()


@pytest.mark.parametrize(
    ("time_", "left_s"),
    [("soon", 60), (None, 60), ("1999-01-01T00:00:00Z", 0), ("2999-01-01T00:00:00Z", 120)],
)
def test_aws_a_strange_time_is_taken_with_care(aws: FakeAws, time_: str | None, left_s: float) -> None:
    aws.action = {"action": "stop", "time": time_}
    aws.interrupt(120)
    assert interruption(provider_of(aws)).left_s == left_s


def test_aws_rebalance_is_told_apart_and_yields_to_an_interruption(aws: FakeAws) -> None:
    aws.rebalance = True
    provider = provider_of(aws)
    notice = provider.look()
    assert notice is not None
    assert (notice.kind, notice.left_s) == (Kind.REBALANCE, None)
    aws.interrupt(120)
    assert interruption(provider).what == "terminate"


def test_gcp_is_told_the_moment_it_changes() -> None:
    with serving(FakeGcp()) as gcp:
        provider = provider_of(gcp)
        assert provider.look() is None

        def asked_to_wait() -> bool:
            return any("wait_for_change" in seen.query for seen in gcp.seen)

        def preempt() -> None:
            wait_until(asked_to_wait, 5, "the provider to wait")
            gcp.interrupt(30)

        thread = Thread(target=preempt)
        thread.start()
        assert interruption(provider).left_s == 30
        thread.join()


def test_azure_hears_only_of_its_own_eviction(azure: FakeAzure) -> None:
    azure.others = [
        azure.event("Preempt", "pool_IN_8"),
        azure.event("Reboot", azure.machine),
        azure.event("Freeze", azure.machine, "pool_IN_8"),
    ]
    provider = provider_of(azure)
    assert provider.look() is None
    azure.others.append(azure.event("Preempt", "pool_IN_9", azure.machine))
    assert interruption(provider)


def test_azure_an_eviction_that_has_begun_leaves_no_time(azure: FakeAzure) -> None:
    azure.status = "Started"
    azure.interrupt(30)
    assert interruption(provider_of(azure)).left_s == 0


@pytest.mark.parametrize("acknowledge", ["true", "false"])
def test_azure_is_told_to_go_on_only_after_the_worker_left_and_if_the_operator_wants(
    azure: FakeAzure, acknowledge: str
) -> None:
    provider = provider_of(azure, acknowledge=acknowledge)
    azure.interrupt(30)
    interruption(provider)
    assert [seen for seen in azure.seen if seen.method == "POST"] == []
    provider.left()
    posted = [seen.body for seen in azure.seen if seen.method == "POST"]
    started = {"StartRequests": [{"EventId": f"id-of-Preempt-{azure.machine}"}]}
    assert posted == ([started] if acknowledge == "true" else [])


@pytest.mark.parametrize("text", ["{", "[]", '"x"', '{"left_s": "soon"}', '{"pools": 5'])
def test_local_a_file_that_says_nothing_sensible_is_no_notice(tmp_path: Path, text: str) -> None:
    machine = FakeMachine(tmp_path / "notice")
    machine.file.write_text(text)
    with pytest.raises(Unreadable):
        provider_of(machine).look()


def test_local_a_notice_may_be_for_some_pools(tmp_path: Path) -> None:
    machine = FakeMachine(tmp_path / "notice")
    machine.file.write_text('{"pools": ["other"]}')
    assert provider_of(machine).look() is None
    machine.file.write_text('{"pools": ["other", "default"], "left_s": 9}')
    assert interruption(provider_of(machine)).left_s == 9
    machine.file.write_text("")
    assert interruption(provider_of(machine)).left_s == 120
