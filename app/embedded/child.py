"""Exec a command tied to its parent: when the parent dies, however, the command gets a signal.

    python child.py [--signal N] [--user NAME] [--keep-env A,B] -- COMMAND...

So a supervisor killed with -9 leaves nothing running (on Linux; elsewhere `down` finds the rest by
the stack's mark). Run by path and with `-I -S`, hence it imports nothing but the standard library.
"""

import argparse
import ctypes
import os
import pwd
import signal
import sys
from collections.abc import Sequence

_PR_SET_PDEATHSIG = 1
_KEPT = ("PATH", "LANG", "TZ")


def wrap(
    command: Sequence[str],
    *,
    death_signal: signal.Signals = signal.SIGTERM,
    user: str | None = None,
    keep_env: Sequence[str] | None = None,
) -> list[str]:
    """The command line that runs `command` through this file.

    `keep_env` drops the environment but for these names (and the path and the locale).
    """
    wrapped = [sys.executable, "-I", "-S", __file__, "--signal", str(int(death_signal))]
    if user is not None:
        wrapped += ["--user", user]
    if keep_env is not None:
        wrapped += ["--keep-env", ",".join(keep_env)]
    return [*wrapped, "--", *command]


def main(argv: Sequence[str]) -> None:
    """Become the command."""
    options = _parser().parse_args(argv)
    parent = os.getppid()
    if options.user is not None:
        account = pwd.getpwnam(options.user)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    # After the change of user, which would undo it.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, options.signal, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit("the parent is gone")
    environ = dict(os.environ)
    if options.keep_env is not None:
        kept = {*_KEPT, *options.keep_env.split(",")}
        environ = {name: value for name, value in environ.items() if name in kept}
    os.execvpe(options.command[0], options.command, environ)  # noqa: S606


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    parser.add_argument("--signal", type=int, default=int(signal.SIGTERM))
    parser.add_argument("--user")
    parser.add_argument("--keep-env")
    parser.add_argument("command", nargs="+")
    return parser


if __name__ == "__main__":
    main(sys.argv[1:])
