"""A door in front of a server: while it is shut, the server is gone; while it is stuck, it says nothing."""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit


class Door:
    """Forwards TCP connections from a port of its own to `target`."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener: socket.socket | None = None
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._moving = threading.Event()
        self._moving.set()
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port: int = probe.getsockname()[1]
        self.open()

    def open(self) -> None:
        """Let connections through."""
        self._moving.set()
        if self._listener is None:
            self._listener = socket.create_server(("127.0.0.1", self.port))
            threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def shut(self) -> None:
        """End every connection and refuse new ones, as a server that stopped."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._lock:
            for pair in self._pairs:
                for end in pair:
                    with contextlib.suppress(OSError):
                        end.shutdown(socket.SHUT_RDWR)
        self._moving.set()

    def stick(self) -> None:
        """Keep every connection and take new ones, but let no byte through, as a server that hangs."""
        self._moving.clear()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near, contextlib.suppress(OSError), socket.create_connection(self._target) as far:
            pair = (near, far)
            with self._lock:
                self._pairs.add(pair)
            try:
                while True:
                    readable, _, _ = select.select(pair, [], [])
                    self._moving.wait()
                    for end in readable:
                        data = end.recv(65_536)
                        if not data:
                            return
                        (far if end is near else near).sendall(data)
            finally:
                with self._lock:
                    self._pairs.discard(pair)


@contextmanager
def door_to(url: str) -> Iterator[tuple[Door, str]]:
    """A door to the server of `url`, and the URL of the same thing through the door."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    door = Door((parts.hostname, parts.port))
    try:
        yield door, url.replace(f":{parts.port}", f":{door.port}", 1)
    finally:
        door.shut()
