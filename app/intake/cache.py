"""Remembering what Postgres said for a moment, so that the hot path asks it once and not per request."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class TtlCache(Generic[Key, Value]):
    """At most `size` values, each for `ttl_s` seconds; the least recently used goes first.

    What is absent is remembered too, but in a space of its own: a flood of unknown names can't push
    out what is in use. Safe to share among threads.
    """

    def __init__(self, size: int, ttl_s: float, clock: Callable[[], float]) -> None:
        self._size = size
        self._ttl_s = ttl_s
        self._clock = clock
        self._lock = threading.Lock()
        self._present: OrderedDict[Key, tuple[float, Value | None]] = OrderedDict()
        self._absent: OrderedDict[Key, tuple[float, Value | None]] = OrderedDict()

    def get(self, key: Key, load: Callable[[], Value | None]) -> Value | None:
        """The remembered value, else what `load` returns. An exception of `load` is not remembered."""
        now = self._clock()
        with self._lock:
            for space in (self._present, self._absent):
                entry = space.get(key)
                if entry is not None and now < entry[0]:
                    space.move_to_end(key)
                    return entry[1]
        value = load()
        with self._lock:
            self._present.pop(key, None)
            self._absent.pop(key, None)
            space = self._absent if value is None else self._present
            space[key] = (now + self._ttl_s, value)
            if len(space) > self._size:
                space.popitem(last=False)
        return value

    def __len__(self) -> int:
        return len(self._present) + len(self._absent)
