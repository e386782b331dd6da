"""Settings are read once and report every error at once."""

import base64
import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from app.errors import SettingsError
from app.settings import load

GOOD = {
    "HEADRACE_DATABASE_URL": "postgresql://u:p@h/d",
    "HEADRACE_REDIS_URL": "redis://h/0",
    "HEADRACE_SECRET_KEY": "s" * 32,
}


def test_groups_are_read_by_their_prefix() -> None:
    settings = load({**GOOD, "HEADRACE_WORKER_POOL": "spot-a", "HEADRACE_API_MAX_WAIT_S": "30", "PATH": "x"})
    assert settings.worker.pool == "spot-a"
    assert settings.api.max_wait_s == 30


def documented() -> list[str]:
    """Every setting that the operator's guide names in its table."""
    guide = Path(__file__).resolve().parents[2] / "docs" / "guides" / "operate.md"
    return re.findall(r"^\| `(HEADRACE_[A-Z0-9_]+)` \|", guide.read_text(), re.MULTILINE)


def test_every_documented_setting_can_be_set() -> None:
    names = documented()
    assert len(names) > 50
    with pytest.raises(SettingsError) as caught:
        load(dict.fromkeys(names, "\0"))
    assert not [problem for problem in caught.value.problems if "no such setting" in problem]


def test_every_error_is_reported_at_once_by_its_name() -> None:
    with pytest.raises(SettingsError) as caught:
        load(
            {
                **GOOD,
                "HEADRACE_SECRET_KEY": "short",
                "HEADRACE_WORKER_SLICE_S": "-1",
                "HEADRACE_COLOUR": "red",
            }
        )
    names = [problem.split(":")[0] for problem in caught.value.problems]
    assert sorted(names) == ["HEADRACE_COLOUR", "HEADRACE_SECRET_KEY", "HEADRACE_WORKER_SLICE_S"]


def test_wrong_urls_are_named() -> None:
    with pytest.raises(SettingsError, match=r"HEADRACE_DATABASE_URL.*HEADRACE_REDIS_URL"):
        load({**GOOD, "HEADRACE_DATABASE_URL": "mysql://x", "HEADRACE_REDIS_URL": "http://x"})


def test_secrets_do_not_show() -> None:
    with pytest.raises(SettingsError) as caught:
        load({**GOOD, "HEADRACE_SECRET_KEY": "hunter2"})
    assert "hunter2" not in str(caught.value)
    assert "postgresql" not in repr(load(GOOD))


@pytest.mark.parametrize(
    ("text", "networks"),
    [
        ("10.0.0.0/8, fd00::/8", ["10.0.0.0/8", "fd00::/8"]),
        ("192.168.1.7", ["192.168.1.7/32"]),
        ("10.0.0.0/8,", ["10.0.0.0/8"]),
        ("", []),
    ],
)
def test_networks_are_listed_with_commas(text: str, networks: list[str]) -> None:
    settings = load({**GOOD, "HEADRACE_ALLOW_NETWORKS": text})
    assert list(settings.allow_networks) == [ip_network(network) for network in networks]


@pytest.mark.parametrize(
    "text", ["10.0.0.0/33", "10.0.0.1/8", "example.com", "10.0.0.0/8 fd00::/8", "::ffff:10.0.0.0/104", "all"]
)
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(SettingsError, match=rf"HEADRACE_ALLOW_NETWORKS: .*{re.escape(repr(text))}"):
        load({**GOOD, "HEADRACE_ALLOW_NETWORKS": f"fd00::/8, {text}"})


def key(byte: str, length: int = 32) -> str:
    return base64.b64encode(byte.encode() * length).decode()


def test_encryption_keys_are_named_and_keep_their_order() -> None:
    settings = load({**GOOD, "HEADRACE_ENCRYPTION_KEYS": f"new:{key('n')}, 2025-old:{key('o')}"})
    found = {name: value.get_secret_value() for name, value in settings.encryption_keys.items()}
    assert list(found.items()) == [("new", b"n" * 32), ("2025-old", b"o" * 32)]
    assert key("n") not in repr(settings)
    assert "nnnn" not in repr(settings)
    assert load({**GOOD, "HEADRACE_ENCRYPTION_KEYS": ""}).encryption_keys == {}


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        (key("k"), "key 1 needs an id"),
        (f":{key('k')}", "key 1 needs an id"),
        (f"Key_1:{key('k')}", "key 1 needs an id"),
        (f"{'a' * 33}:{key('k')}", "key 1 needs an id"),
        (f"a:{key('k')},a:{key('l')}", "key 2 needs an id of its own"),
        (f"a:{key('k')},", "key 2 needs an id"),
        ("a:", "key 1 must be 32 bytes in base64"),
        ("a:k1k1k1", "key 1 must be 32 bytes in base64"),
        (f"a:{key('k', 31)}", "key 1 must be 32 bytes in base64"),
        (f"a:{key('k')},b:{key('l', 33)}", "key 2 must be 32 bytes in base64"),
        (f"a:{'k' * 44}!", "key 1 must be 32 bytes in base64"),
    ],
)
def test_an_encryption_key_that_is_none_is_named_but_not_shown(text: str, wrong: str) -> None:
    with pytest.raises(SettingsError, match=f"HEADRACE_ENCRYPTION_KEYS.*{wrong}") as caught:
        load({**GOOD, "HEADRACE_ENCRYPTION_KEYS": text})
    shown = str(caught.value)
    for part in text.replace(",", ":").split(":"):
        assert len(part) < 6 or part not in shown


def test_what_is_wrong_is_told_in_plain_words() -> None:
    wrong = {
        "HEADRACE_SECRET_KEY": "short",
        "HEADRACE_STORAGE_URL": "ftp://x",
        "HEADRACE_API_MAX_WAIT_S": "abc",
        "HEADRACE_MEDIA_DEADLINE_S": "soon",
        "HEADRACE_MEDIA_URLS": "perhaps",
        "HEADRACE_LOG_LEVEL": "loud",
        "HEADRACE_ALLOW_NETWORKS": "zzz",
        "HEADRACE_API_MAXWAIT_S": "5",
        "HEADRACE_LOGLEVEL": "info",
        "HEADRACE_QUITE_ANOTHER": "1",
    }
    with pytest.raises(SettingsError) as caught:
        load(GOOD | wrong)
    told = dict(problem.split(": ", 1) for problem in caught.value.problems)
    assert told == {
        "HEADRACE_SECRET_KEY": "must have 32 characters or more",
        "HEADRACE_STORAGE_URL": "must look like file:///a/folder or s3://bucket/prefix",
        "HEADRACE_API_MAX_WAIT_S": "must be a whole number",
        "HEADRACE_MEDIA_DEADLINE_S": "must be a number",
        "HEADRACE_MEDIA_URLS": "must be true or false",
        "HEADRACE_LOG_LEVEL": "must be 'debug', 'info', 'warning' or 'error'",
        "HEADRACE_ALLOW_NETWORKS": "'zzz' is not a network: write it like 10.0.0.0/8 or fd00::/8",
        "HEADRACE_API_MAXWAIT_S": "no such setting; did you mean HEADRACE_API_MAX_WAIT_S?",
        "HEADRACE_LOGLEVEL": "no such setting; did you mean HEADRACE_LOG_LEVEL?",
        "HEADRACE_QUITE_ANOTHER": "no such setting",
    }
