"""Postgres refuses to be root: the system user it runs as instead, and what that user may reach."""

import os
import pwd
import stat
import subprocess
from pathlib import Path

from app.embedded.errors import StackError

NAME = "pgserver"


def for_postgres() -> str | None:
    """The user to run Postgres as, made at the first need; None when we are an ordinary user."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(NAME)
    except KeyError:
        _make()
    return NAME


def _make() -> None:
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", NAME]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise StackError(
            f"Postgres can't run as root and the user {NAME} can't be made:"
            " make it, or run as an ordinary user"
        ) from error


def give(path: Path, user: str) -> None:
    """Make `path` the user's own."""
    entry = pwd.getpwnam(user)
    os.chown(path, entry.pw_uid, entry.pw_gid)


def open_path(path: Path) -> list[Path]:
    """Let every user pass through the folders above `path`, and return those that changed.

    Only the x bit is given, without which nothing below can be reached. It shows nothing: listing
    needs r, and files keep their modes.
    """
    return [folder for folder in path.resolve().parents if _add(folder, stat.S_IXOTH)]


def open_install(install: Path) -> list[Path]:
    """Let every user read and run the server's installation, which holds nothing private.

    Needed where it was unpacked under a strict umask. Returns the folders above it that changed.
    """
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    for top in (install, libraries):
        for found in (top, *top.rglob("*")):
            if found.is_dir():
                _add(found, stat.S_IROTH | stat.S_IXOTH)
            elif found.is_file():
                runnable = found.stat().st_mode & stat.S_IXUSR
                _add(found, stat.S_IROTH | (stat.S_IXOTH if runnable else 0))
    return open_path(install)


def _add(path: Path, bits: int) -> bool:
    mode = path.stat().st_mode
    if mode & bits == bits:
        return False
    try:
        path.chmod(stat.S_IMODE(mode) | bits)
    except OSError as error:
        raise StackError(f"Postgres's user can't reach {path}: {error.strerror}") from error
    return True
