"""What a storage promises, whichever it is."""

import hashlib
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import unquote, urlsplit

from app.errors import HeadraceError, Unavailable
from app.settings import Settings

CHUNK = 1024 * 1024
"""The most bytes that are read or written at a time: what a transfer costs in memory."""

_KEY = re.compile(r"[a-z0-9_-]+(?:/[a-z0-9_-]+)*")


class StorageMissing(HeadraceError):
    """Nothing is stored under the key."""

    code = "storage_missing"


class NotConfigured(Unavailable):
    """This server was not told where to keep files."""

    code = "storage_not_configured"
    retryable = False

    def __init__(self) -> None:
        super().__init__("this server keeps no files: HEADRACE_STORAGE_URL is not set")


class Writer:
    """Takes bytes on their way into a storage, and tells what it was given."""

    def __init__(self, put: Callable[[bytes], None]) -> None:
        self._put = put
        self._held = bytearray()
        self._hash = hashlib.sha256()
        self.size = 0

    def write(self, data: bytes) -> None:
        """Add these bytes. Raises `Unavailable`."""
        self.size += len(data)
        self._held += data
        while len(self._held) >= CHUNK:
            self._pass_on(CHUNK)

    def flush(self) -> None:
        """Pass on what is held back to make whole chunks."""
        if self._held:
            self._pass_on(len(self._held))

    @property
    def sha256(self) -> bytes:
        """The digest of all that was written."""
        whole = self._hash.copy()
        whole.update(self._held)
        return whole.digest()

    def _pass_on(self, length: int) -> None:
        chunk = bytes(self._held[:length])
        del self._held[:length]
        self._hash.update(chunk)
        self._put(chunk)


class Storage(ABC):
    """Bytes under keys: lower case words of letters, digits, `-` and `_` with slashes between them.

    Each method raises `Unavailable` if the storage is out of reach. One process may share it among threads.
    """

    configured = True
    """Whether there is one at all."""

    @staticmethod
    def of(settings: Settings) -> "Storage":
        """The storage of these settings. Connects to nothing yet. Raises `SettingsError`."""
        if settings.storage_url is None:
            return NoStorage()
        url = urlsplit(settings.storage_url)
        if url.scheme == "file":
            from app.storage.local import LocalStorage

            return LocalStorage(unquote(url.path))
        from app.storage.s3 import S3Storage

        return S3Storage(settings.storage_url)

    @abstractmethod
    def write(self, key: str) -> AbstractContextManager[Writer]:
        """Write an object. It appears, whole and kept, when the block ends, and not at all if it raises.

        One writer a key: two at a time would be mixed.
        """

    @abstractmethod
    def read(self, key: str, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        """The object's bytes from `start` to before `end`, or to its end.

        Raises `StorageMissing` at once, and `Unavailable` later, too, as when the object ends before `end`.
        """

    @abstractmethod
    def delete(self, key: str) -> None:
        """Remove the object, and what a writer that was killed left of it. It need not be there."""

    @abstractmethod
    def size(self, key: str) -> int:
        """How many bytes the object has. Raises `StorageMissing`."""


class NoStorage(Storage):
    """What a server has that was told of no storage: everything raises `NotConfigured`."""

    configured = False

    def _refuse(self, *_arguments: Any, **_options: Any) -> Any:
        raise NotConfigured

    write = read = delete = size = _refuse


def checked(key: str) -> str:
    """The key, which leads to no other place than it says. Raises `ValueError`."""
    if not _KEY.fullmatch(key):
        raise ValueError(f"{key!r} is no key of a storage")
    return key


def cut_short() -> Unavailable:
    """The object has fewer bytes than it should."""
    return Unavailable("the stored file is cut short")
