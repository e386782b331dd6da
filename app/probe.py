"""`python -m app.probe /livez`: whether the API on this machine says so, asked as its own settings have it.

For health checks inside its container, which know neither its port nor whether it speaks TLS.
"""

import ssl
import sys
from collections.abc import Mapping
from http.client import HTTPConnection, HTTPException, HTTPSConnection

from app.errors import SettingsError
from app.settings import load

TIMEOUT_S = 3.0
_EVERYWHERE = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "[::]": "::1"}  # noqa: S104


def ask(path: str, environ: Mapping[str, str] | None = None) -> int:
    """The status of its answer. Raises `OSError`, `HTTPException` or `SettingsError`."""
    api = load(environ).api
    host, _, port = api.bind.rpartition(":")
    host = _EVERYWHERE.get(host, host)
    connection = HTTPConnection(host, int(port), timeout=TIMEOUT_S)
    if api.tls_certificate:
        # Its certificate is for the name that clients know. Nothing is told, and only a status is believed.
        unchecked = ssl._create_unverified_context()  # noqa: S323
        connection = HTTPSConnection(host, int(port), timeout=TIMEOUT_S, context=unchecked)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    finally:
        connection.close()


if __name__ == "__main__":
    try:
        status = ask(sys.argv[1])
    except (OSError, HTTPException, SettingsError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    sys.exit(None if status == 200 else f"{sys.argv[1]}: {status}")
