"""A TCP proxy on loopback that can become a hole: connections stay open, and nothing comes through."""

import contextlib
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

_CHUNK = 65_536
_LOOK_S = 0.05


@dataclass
class Proxy:
    """Passes on what comes, until `open_hole`. After `close_hole` only new connections pass."""

    target: tuple[str, int]
    listener: socket.socket
    _hole: threading.Event = field(default_factory=threading.Event)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _pairs: list[tuple[socket.socket, socket.socket]] = field(default_factory=list)

    def url(self, url: str) -> str:
        """The URL that reaches the same server through here."""
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        return parts._replace(netloc=f"{login}@127.0.0.1:{self.listener.getsockname()[1]}").geturl()

    def open_hole(self) -> None:
        """From now on nothing comes through, and nobody is told."""
        self._hole.set()

    def close_hole(self) -> None:
        """As a router that came back and has forgotten its connections."""
        for pair in self._pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
        self._pairs.clear()
        self._hole.clear()

    def serve(self) -> None:
        """Accept until it is stopped."""
        while not self._stopped.is_set():
            try:
                client, _ = self.listener.accept()
                server = socket.create_connection(self.target)
            except OSError:
                continue
            self._pairs.append((client, server))
            for ends in ((client, server), (server, client)):
                threading.Thread(target=self._pump, args=ends, daemon=True).start()

    def stop(self) -> None:
        """End it, and every connection."""
        self._stopped.set()
        self.close_hole()
        self.listener.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(_CHUNK):
                while self._hole.is_set() and not self._stopped.wait(_LOOK_S):
                    pass
                sink.sendall(data)
        except OSError:
            pass
        finally:
            for end in (source, sink):
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def proxy(url: str) -> Iterator[Proxy]:
    """A proxy to the server of this URL."""
    parts = urlsplit(url)
    assert parts.hostname
    assert parts.port
    running = Proxy((parts.hostname, parts.port), socket.create_server(("127.0.0.1", 0)))
    running.listener.settimeout(0.2)
    thread = threading.Thread(target=running.serve, name="proxy", daemon=True)
    thread.start()
    try:
        yield running
    finally:
        running.stop()
        thread.join(5)
