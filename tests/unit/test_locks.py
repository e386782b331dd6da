"""requirements/*.txt against setup.cfg and constraints.txt, without an index."""

import configparser
import importlib.util
import re
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "requirements"
_spec = importlib.util.spec_from_file_location("lock", LOCKS / "lock.py")
assert _spec
assert _spec.loader
lock = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(lock)
ROLES = lock.ROLES

ALL = sorted(path.stem for path in LOCKS.glob("*.txt"))


def entries(name: str) -> dict[str, tuple[str, str]]:
    """Each package of a lock: its version, and the rest of its entry."""
    text = (LOCKS / f"{name}.txt").read_text()
    found = re.split(r"^(?=[\w.-]+(?:\[[\w,-]+\])?==)", text, flags=re.MULTILINE)[1:]
    return {
        canonicalize_name(re.split(r"\[|==", entry, maxsplit=1)[0]): (
            re.split(r"==| ", entry, maxsplit=2)[1],
            entry,
        )
        for entry in found
    }


def declared(extras: tuple[str, ...]) -> list[Requirement]:
    """What setup.cfg asks for by these extras, ours among them resolved."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    lines = config["options"]["install_requires"].split("\n")
    wanted, seen = list(extras), set()
    while wanted:
        extra = wanted.pop()
        if extra in seen:
            continue
        seen.add(extra)
        for line in config["options.extras_require"][extra].split("\n"):
            ours = Requirement(line) if line.startswith("headrace[") else None
            wanted += ours.extras if ours else []
            lines += [] if ours else [line]
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def constraints() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {canonicalize_name(name): version for name, version in pairs}


@pytest.mark.parametrize("name", ROLES)
def test_a_lock_holds_what_setup_cfg_asks_for_and_nothing_that_it_no_longer_does(name: str) -> None:
    locked, wanted = entries(name), declared(ROLES[name].extras)
    for requirement in wanted:
        version, _ = locked[canonicalize_name(requirement.name)]
        assert Version(version.partition("+")[0]) in requirement.specifier, f"{requirement}: make lock"
    direct = {package for package, (_, entry) in locked.items() if "headrace (setup.cfg)" in entry}
    assert direct == {canonicalize_name(requirement.name) for requirement in wanted}, "make lock"


@pytest.mark.parametrize("name", ROLES)
def test_what_is_locked_was_tested(name: str) -> None:
    tested = constraints()
    versions = {package: version.partition("+")[0] for package, (version, _) in entries(name).items()}
    differ = {package for package, version in versions.items() if tested.get(package, version) != version}
    assert not differ, "make lock"


@pytest.mark.parametrize("name", ALL)
def test_every_package_has_its_hashes_and_no_index_is_named(name: str) -> None:
    text = (LOCKS / f"{name}.txt").read_text()
    assert [package for package, (_, entry) in entries(name).items() if "--hash=sha256:" not in entry] == []
    assert "://" not in text
    assert "--index" not in text
    assert "--find-links" not in text


def test_every_lock_is_written_by_the_command() -> None:
    assert set(ALL) == {*ROLES, "build", "tools"}


def test_who_calls_out_has_no_web_server_and_who_serves_cannot_call_out() -> None:
    assert not {"flask", "gunicorn", "gevent"} & set(entries("sender")) | {"torch"} & set(entries("sender"))
    assert not {"aiohttp", "pycares", "torch"} & set(entries("api"))
    assert not {"aiohttp", "pycares", "torch", "flask", "gunicorn"} & set(entries("scheduler"))
