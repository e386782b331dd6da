"""Secrets at rest: opened by the right key for the right owner, and in no other way."""

import base64
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes, SecretStr

from app.domain.sealing import CannotOpen, Keyring
from app.settings import Settings

OLD, NEW = b"o" * 32, b"n" * 32
SECRET, OWNER = "whsec_c2VjcmV0", "endpoint:1"


def settings(secret_key: str = "p" * 32, **keys: bytes) -> Settings:
    fields: dict[str, Any] = {"database_url": "postgresql://h/d", "redis_url": "redis://h"}
    named = {name: SecretBytes(key) for name, key in keys.items()}
    return Settings(**fields, secret_key=SecretStr(secret_key), encryption_keys=named)


@given(st.text(), st.text())
def test_what_was_sealed_is_opened(secret: str, owner: str) -> None:
    ring = Keyring({"old": OLD})
    sealed = ring.seal(secret, owner)
    assert ring.open(sealed, owner) == secret
    assert ring.is_current(sealed)


def test_the_form_names_the_key_and_shows_nothing_else() -> None:
    sealed = Keyring({"old": OLD}).seal(SECRET, OWNER)
    version, name, text = sealed.split(".")
    assert (version, name) == ("1", "old")
    assert len(base64.b64decode(text)) == 12 + len(SECRET) + 16
    assert SECRET not in sealed
    assert sealed != Keyring({"old": OLD}).seal(SECRET, OWNER)


def test_the_first_key_seals_and_any_key_opens() -> None:
    before = Keyring({"old": OLD}).seal(SECRET, OWNER)
    ring = Keyring({"new": NEW, "old": OLD})
    after = ring.seal(SECRET, OWNER)
    assert after.startswith("1.new.")
    assert ring.open(before, OWNER) == ring.open(after, OWNER) == SECRET
    assert (ring.is_current(before), ring.is_current(after)) == (False, True)


def test_it_is_for_its_owner_only() -> None:
    ring = Keyring({"old": OLD})
    with pytest.raises(CannotOpen, match="not sealed for this owner"):
        ring.open(ring.seal(SECRET, OWNER), "endpoint:2")


def test_the_same_name_on_another_key_opens_nothing() -> None:
    sealed = Keyring({"old": OLD}).seal(SECRET, OWNER)
    with pytest.raises(CannotOpen, match="'old'"):
        Keyring({"old": NEW}).open(sealed, OWNER)


def test_a_key_that_is_gone_is_named() -> None:
    sealed = Keyring({"old": OLD}).seal(SECRET, OWNER)
    with pytest.raises(CannotOpen, match=r"'old', which HEADRACE_ENCRYPTION_KEYS does not have"):
        Keyring({"new": NEW}).open(sealed, OWNER)


@given(st.integers(0, 200), st.integers(1, 255))
def test_one_byte_changed_and_it_is_not_opened(place: int, by: int) -> None:
    ring = Keyring({"old": OLD})
    head, _, text = ring.seal(SECRET, OWNER).rpartition(".")
    raw = bytearray(base64.b64decode(text))
    raw[place % len(raw)] ^= by
    with pytest.raises(CannotOpen):
        ring.open(f"{head}.{base64.b64encode(raw).decode()}", OWNER)


@pytest.mark.parametrize(
    "text", ["", "1", "1.old", "1.old.", "1.old.!", "1.old.AAAA", "2.old.AAAA", SECRET, "é"]
)
def test_what_was_never_sealed_is_not_opened(text: str) -> None:
    with pytest.raises(CannotOpen) as refused:
        Keyring({"old": OLD}).open(text, OWNER)
    assert SECRET not in str(refused.value)


def test_without_named_keys_one_is_derived_from_the_secret_key() -> None:
    sealed = Keyring.of(settings()).seal(SECRET, OWNER)
    assert Keyring.of(settings()).open(sealed, OWNER) == SECRET
    with pytest.raises(CannotOpen):
        Keyring.of(settings(secret_key="q" * 32)).open(sealed, OWNER)


def test_what_was_sealed_before_keys_were_named_stays_readable() -> None:
    sealed = Keyring.of(settings()).seal(SECRET, OWNER)
    named = Keyring.of(settings(new=NEW, old=OLD))
    assert named.open(sealed, OWNER) == SECRET
    assert not named.is_current(sealed)
    assert named.seal(SECRET, OWNER).startswith("1.new.")
