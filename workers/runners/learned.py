"""The caps that a worker's children have learned, kept from one child to the next."""

import mmap
import struct
from dataclasses import replace
from hashlib import blake2b

from app.domain.model import ModelSpec
from app.domain.planning import Caps

_ENTRY = struct.Struct("<Qqq")
_PLACES = 170
_NO_CAP = -1


class LearnedCaps:
    """Made before the fork, so that parent and children see the same page, and a child that is replaced
    leaves what it learned. Not locked: entries only get smaller, and what one child misses it learns again.
    """

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _ENTRY.size * _PLACES)

    def of(self, spec: ModelSpec, caps: Caps) -> Caps:
        """The caps of this model, or less if it was learned that they are too much."""
        place = self._place(spec)
        found, items, units = _ENTRY.unpack_from(self._page, place * _ENTRY.size)
        if found != _key(spec):
            return caps
        return replace(caps, items=min(caps.items, items), units=caps.units if units == _NO_CAP else units)

    def half(self, spec: ModelSpec, caps: Caps, items: int, padded_units: int) -> Caps:
        """The caps after a micro-batch of this size was too much, for this child and those to come."""
        smaller = self.of(spec, caps).half_of(items, padded_units)
        units = _NO_CAP if smaller.units is None else smaller.units
        _ENTRY.pack_into(
            self._page, self._place(spec) * _ENTRY.size, _key(spec), max(1, smaller.items), units
        )
        return smaller

    def _place(self, spec: ModelSpec) -> int:
        """Its own or the first free one from where its key points. With too many models, a shared one."""
        key = _key(spec)
        for step in range(_PLACES):
            place = (key + step) % _PLACES
            found = _ENTRY.unpack_from(self._page, place * _ENTRY.size)[0]
            if found in (0, key):
                return place
        return key % _PLACES


def _key(spec: ModelSpec) -> int:
    """Names the code and how it is computed; never 0."""
    text = f"{spec.name}\0{spec.version}\0{spec.source_sha256}\0{spec.variant}"
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little") | 1
