"""Secrets at rest: AES-256-GCM under named keys, so that keys can be changed without losing a secret.

A sealed secret is `1.<key id>.<base64 of nonce and ciphertext>`, bound to what it belongs to: moved to
another row it can't be opened.
"""

import base64
import os
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from app.settings import ENCRYPTION_KEY_BYTES, Settings

_NONCE_BYTES = 12
_DERIVED = "secret key"


class CannotOpen(ValueError):
    """The text is not sealed under a key of this ring, or not for this owner. Says nothing of the secret."""


class Keyring:
    """Seals with its first key, opens with any."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        self._ciphers = {name: AESGCM(key) for name, key in keys.items()}
        self._first = next(iter(keys))

    @classmethod
    def of(cls, settings: Settings) -> "Keyring":
        """The keys of the settings, and a last one derived from the secret key: what was sealed before keys
        were named stays readable.
        """
        named = {name: key.get_secret_value() for name, key in settings.encryption_keys.items()}
        hkdf = HKDF(SHA256(), ENCRYPTION_KEY_BYTES, salt=None, info=b"headrace secrets at rest")
        return cls({**named, _DERIVED: hkdf.derive(settings.secret_key.get_secret_value().encode())})

    def seal(self, secret: str, owner: str) -> str:
        """The secret as it may be stored, readable only for `owner` (say, `endpoint:<uuid>`)."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = self._ciphers[self._first].encrypt(nonce, secret.encode(), owner.encode())
        return f"1.{self._first}.{base64.b64encode(nonce + sealed).decode()}"

    def open(self, sealed: str, owner: str) -> str:
        """What `seal` was given. Raises `CannotOpen`."""
        version, _, rest = sealed.partition(".")
        name, _, text = rest.partition(".")
        if version != "1" or name not in self._ciphers:
            raise CannotOpen(f"sealed under the key {name!r}, which HEADRACE_ENCRYPTION_KEYS does not have")
        try:
            raw = base64.b64decode(text, validate=True)
            return (
                self._ciphers[name].decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode()).decode()
            )
        except (ValueError, InvalidTag):
            raise CannotOpen(f"not sealed for this owner under the key {name!r}") from None

    def is_current(self, sealed: str) -> bool:
        """Whether it is sealed under the key that seals now."""
        return sealed.startswith(f"1.{self._first}.")
