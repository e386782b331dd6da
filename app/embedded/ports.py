"""Free TCP ports on loopback."""

import random
import socket

from app.embedded.errors import StackError

LOOPBACK = "127.0.0.1"

# Below the ports that systems hand to outgoing connections (32768 and up on Linux): a server that
# is being restarted can't find its port taken by a client's connection.
_RANGE = range(20_000, 32_000)
_TRIES = 200


def is_free(port: int) -> bool:
    """Whether a server could listen on `port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # As servers do: connections of a server that just ended don't count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


class Ports:
    """Hands out free ports, none twice."""

    def __init__(self) -> None:
        self._given: set[int] = set()

    def take(self, preferred: int | None = None) -> int:
        """`preferred` when it is free, else any free port."""
        candidates = random.sample(_RANGE, _TRIES)
        for port in candidates if preferred is None else [preferred, *candidates]:
            if port not in self._given and is_free(port):
                self._given.add(port)
                return port
        raise StackError("no free port found")

    def claim(self, port: int) -> int:
        """Exactly `port`, which the user asked for."""
        if port in self._given or not is_free(port):
            raise StackError(f"port {port} is in use")
        self._given.add(port)
        return port
