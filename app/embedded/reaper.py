"""A supervisord event listener: what a program leaves behind in its process group dies with it.

When a Celery parent is killed with -9 its children live on, and would go on beside those of the
parent's replacement. Each supervised program leads its own process group, so the group is theirs.
Run by path and with `-I -S`, hence it imports nothing but the standard library.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from typing import TextIO

EVENTS = "PROCESS_STATE_EXITED,PROCESS_STATE_STOPPED"


def command() -> list[str]:
    """The command line of the listener."""
    return [sys.executable, "-I", "-S", __file__]


def ended(events: TextIO, replies: TextIO) -> Iterator[int]:
    """The process ids of programs that ended, as supervisord tells them; each is answered OK."""
    while True:
        replies.write("READY\n")
        replies.flush()
        header = _tokens(events.readline())
        if not header:
            return
        yield int(_tokens(events.read(int(header["len"])))["pid"])
        replies.write("RESULT 2\nOK")
        replies.flush()


def _tokens(line: str) -> dict[str, str]:
    return dict(token.split(":", 1) for token in line.split())


def main() -> None:
    """Kill the group of each program that ended, until supervisord goes."""
    for group in ended(sys.stdin, sys.stdout):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
