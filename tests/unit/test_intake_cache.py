"""Remembering for a moment, within bounds."""

from app.intake import authenticate, catalogue
from app.intake.cache import TtlCache


class Source:
    def __init__(self) -> None:
        self.asked: list[str] = []

    def load(self, key: str) -> str | None:
        self.asked.append(key)
        return None if key.startswith("no") else key.upper()


def test_a_value_is_remembered_for_its_time_and_not_longer() -> None:
    now, source = [0.0], Source()
    cache: TtlCache[str, str] = TtlCache(10, 2.0, lambda: now[0])
    for moment in (0.0, 1.9, 2.0, 3.9):
        now[0] = moment
        assert cache.get("a", lambda: source.load("a")) == "A"
    assert source.asked == ["a", "a"]


def test_absence_is_remembered_and_ends_too() -> None:
    now, source = [0.0], Source()
    cache: TtlCache[str, str] = TtlCache(10, 2.0, lambda: now[0])
    for moment in (0.0, 1.0, 2.5):
        now[0] = moment
        assert cache.get("nobody", lambda: source.load("nobody")) is None
    assert source.asked == ["nobody", "nobody"]


def test_neither_space_grows_over_its_size_nor_pushes_into_the_other() -> None:
    source = Source()
    cache: TtlCache[str, str] = TtlCache(3, 60.0, lambda: 0.0)
    cache.get("kept", lambda: source.load("kept"))
    for n in range(100):
        cache.get(f"no{n}", lambda n=n: source.load(f"no{n}"))  # type: ignore[misc]
    assert len(cache) == 4
    source.asked.clear()
    cache.get("kept", lambda: source.load("kept"))
    assert source.asked == []


def test_the_least_recently_used_goes_first() -> None:
    source = Source()
    cache: TtlCache[str, str] = TtlCache(2, 60.0, lambda: 0.0)
    for key in ("a", "b", "a", "c", "a", "b"):
        cache.get(key, lambda key=key: source.load(key))  # type: ignore[misc]
    assert source.asked == ["a", "b", "c", "b"]


def test_what_raises_is_not_remembered() -> None:
    cache: TtlCache[str, str] = TtlCache(2, 60.0, lambda: 0.0)

    def broken() -> str:
        raise RuntimeError

    for load, expected in ((broken, None), (lambda: "ok", "ok")):
        try:
            assert cache.get("a", load) == expected
        except RuntimeError:
            assert expected is None


def test_keys_and_versions_of_a_large_installation_are_all_remembered() -> None:
    """With one place too few, whoever asks in turn finds nothing remembered: each request asks Postgres."""
    assert authenticate._CACHED_KEYS >= 3 * 5_000
    assert catalogue._CACHED_VERSIONS >= 2 * 1_000
    assert catalogue._compile.cache_parameters()["maxsize"] >= 1_000
