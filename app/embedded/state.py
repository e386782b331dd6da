"""The state dir: every file of one stack, and `DIR/env`, which tells others how to reach it."""

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import shlex
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

from app.embedded.errors import StackError

DEFAULT = ".headrace"

# Unix socket paths end at 104 bytes (macOS) or 108 (Linux), and supervisord appends its pid.
_LONGEST_SOCKET_PATH = 90


class StateDir:
    """Paths and files of one state dir. What holds secrets has mode 0600. Starts no process."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().resolve()
        self.env_file = self.root / "env"
        self.logs = self.root / "logs"
        self.metrics = self.root / "metrics"
        self.postgres = self.root / "postgres"
        self.valkey = self.root / "valkey"
        self.storage = self.root / "storage"
        self.supervisor_conf = self.root / "supervisor.conf"
        self.supervisor_pid = self.root / "supervisor.pid"
        self._passwords = self.root / "passwords.json"

    @classmethod
    def choose(cls, given: Path | None, environ: Mapping[str, str] | None = None) -> Self:
        """The state dir meant by `--state-dir`, else HEADRACE_STATE_DIR, else `./.headrace`."""
        environ = os.environ if environ is None else environ
        return cls(given or Path(environ.get("HEADRACE_STATE_DIR") or DEFAULT))

    @classmethod
    def load_environment(
        cls, given: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """The environment for a command that works on a stack: `DIR/env` fills what is not set."""
        environ = os.environ if environ is None else environ
        return {**cls.choose(given, environ).read_env(), **environ}

    def create(self) -> None:
        """Make the folders. An existing state dir is kept with all its data."""
        try:
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.logs, self.metrics, self.valkey, self.storage):
                folder.mkdir(mode=0o700, exist_ok=True)
            self.supervisor_socket.parent.mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            raise StackError(f"can't use {self.root} as state dir: {error.strerror}") from error

    def log(self, name: str) -> Path:
        """The log of the process `name`."""
        return self.logs / f"{name}.log"

    @property
    def supervisor_socket(self) -> Path:
        """Where supervisord listens: the state dir, or a private folder when that path is too long."""
        socket = self.root / "supervisor.sock"
        if len(os.fsencode(socket)) <= _LONGEST_SOCKET_PATH:
            return socket
        digest = hashlib.sha256(os.fsencode(self.root)).hexdigest()[:12]
        folder = Path(tempfile.gettempdir()) / f"headrace-{os.geteuid()}-{digest}"
        # Anyone can make a folder of this name first, and would then hold our control socket.
        if os.path.lexists(folder):
            found = folder.lstat()
            if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
                raise StackError(f"{folder} must be a folder that only you can open")
        return folder / "supervisor.sock"

    def forget_socket(self) -> None:
        """Remove what a stopped supervisord leaves: its socket, and the socket's own folder."""
        socket = self.supervisor_socket
        socket.unlink(missing_ok=True)
        if socket.parent != self.root:
            with contextlib.suppress(OSError):
                socket.parent.rmdir()

    def password(self, name: str) -> str:
        """The stack's own password for `name`, made at its first use and kept."""
        known = json.loads(self._passwords.read_text()) if self._passwords.exists() else {}
        if name not in known:
            known[name] = secrets.token_urlsafe(24)
            write_private(self._passwords, json.dumps(known))
        return str(known[name])

    def read_env(self) -> dict[str, str]:
        """What `DIR/env` says; empty when there is no such file."""
        try:
            text = self.env_file.read_text()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StackError(f"can't read {self.env_file}: {error.strerror}") from error
        values = {}
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not line.startswith("#"):
                values[name.strip()] = "".join(shlex.split(value))
        return values

    def write_env(self, values: Mapping[str, str]) -> None:
        """Replace `DIR/env`, in a form that a shell can source and a dotenv reader can parse."""
        lines = [f"{name}={shlex.quote(value)}\n" for name, value in values.items()]
        write_private(self.env_file, "".join(lines))

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Only one `up` or `down` works on a state dir at a time."""
        with (self.root / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StackError(f"another up or down is at work on {self.root}") from None
            yield


def write_private(path: Path, text: str) -> None:
    """Write `path` at once and readable by its owner only: never half, never open to others."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.unlink(missing_ok=True)
    with os.fdopen(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    scratch.replace(path)
