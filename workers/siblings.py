"""One byte for each slot of a worker: which of its children have work in hand."""

import mmap


class Siblings:
    """Made before the fork, so that parent and children see the same bytes. A hint, never a lock."""

    def __init__(self, slots: int = mmap.PAGESIZE) -> None:
        self._page = mmap.mmap(-1, slots)

    def set(self, slot: int, busy: bool) -> None:
        """Say what the child in this slot is. Who starts says "idle": its predecessor may have died busy."""
        self._page[slot % len(self._page)] = busy

    def others(self, slot: int, children: int) -> int:
        """How many of the worker's other children are busy."""
        return sum(self._page[:children]) - self._page[slot % len(self._page)]
