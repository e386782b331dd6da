"""One byte shared by a worker's parent and its children: "stop claiming"."""

import mmap


class DrainFlag:
    """Made before the fork, so that parent and children see the same byte. Setting it is final."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, 1)

    def set(self) -> None:
        self._page[0] = 1

    def is_set(self) -> bool:
        return self._page[0] == 1
