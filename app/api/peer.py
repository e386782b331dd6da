"""Whether the client of the current request is still there."""

import socket

from flask import request


def has_left() -> bool:
    """Whether the connection was closed at the other end. False where the server does not show its socket."""
    connection = request.environ.get("gunicorn.socket")
    if connection is None:
        return False
    timeout = connection.gettimeout()
    # Gevent's sockets ignore MSG_DONTWAIT, and wait by their own timeout.
    connection.settimeout(0)
    try:
        return connection.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ValueError:  # TLS can't be peeked at
        return False
    except OSError:
        return True
    finally:
        connection.settimeout(timeout)
