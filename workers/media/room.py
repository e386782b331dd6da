"""How many bytes may be held: one job's share, and the room of all jobs of a window. Safe among threads."""

import threading


class TooLarge(Exception):
    """The job's media are more than one job may have."""


class NoRoom(Exception):
    """There is no room left in this window. Nobody's fault: another time there is."""


class Room:
    """What a window may hold. Of jobs that want more than there is, those that come last go without."""

    def __init__(self, window_bytes: int, job_bytes: int) -> None:
        self.job_bytes = job_bytes
        self._left = window_bytes
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Raises `NoRoom`."""
        with self._lock:
            if size > self._left:
                raise NoRoom
            self._left -= size

    def give_back(self, size: int) -> None:
        """What was taken is not held any more."""
        with self._lock:
            self._left += size


class Share:
    """One job's part of the room."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._held = 0
        self._closed = False
        self._lock = threading.Lock()

    def take(self, size: int) -> None:
        """Account for bytes before they are held. Raises `TooLarge` and `NoRoom`."""
        with self._lock:
            if self._closed:
                raise NoRoom
            if self._held + size > self._room.job_bytes:
                raise TooLarge
            self._room.take(size)
            self._held += size

    @property
    def closed(self) -> bool:
        """Nobody wants the rest."""
        return self._closed

    def close(self) -> None:
        """Give everything back: the job goes without."""
        with self._lock:
            self._closed = True
            self._room.give_back(self._held)
            self._held = 0
