"""Settings are read once and report every error at once."""

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
