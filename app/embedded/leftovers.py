"""Find and end processes of a stack whose supervisor is gone.

Every process of a stack carries the stack's mark in its environment, so that it is found whoever
its parent is by now.
"""

import contextlib
import os
import signal
from pathlib import Path

import psutil

# Not a HEADRACE_ name, and never written to DIR/env: a shell that reads that file gets no mark.
MARK = "SUPERVISED_STACK"

_GRACE_S = 5.0


def mark(root: Path) -> dict[str, str]:
    """The environment of a process that belongs to the stack in `root`."""
    # A process that renames itself would overwrite its environment, and the mark with it.
    return {MARK: str(root), "SPT_NOENV": "1"}


def find(root: Path, postgres: Path) -> list[psutil.Process]:
    """All processes of the stack in `root`, supervisord included, and children without a mark."""
    marked = [process for process in psutil.process_iter() if _is_of(process, root, postgres)]
    found = {process.pid: process for process in marked}
    for process in marked:
        with contextlib.suppress(psutil.Error):
            found.update({child.pid: child for child in process.children(recursive=True)})
    return list(found.values())


def end(root: Path, postgres: Path) -> list[psutil.Process]:
    """Stop them all: asked first, killed after a few seconds. Returns what was found."""
    found = find(root, postgres)
    # The supervisor would restart what dies.
    for process in sorted(found, key=lambda process: "supervisord" not in _command(process)):
        with contextlib.suppress(psutil.Error):
            process.send_signal(signal.SIGINT if _is_postgres(process) else signal.SIGTERM)
    psutil.wait_procs(found, timeout=_GRACE_S)
    # Look again: what was asked to stop may have started more.
    stubborn = find(root, postgres)
    for process in stubborn:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(stubborn, timeout=_GRACE_S)
    return found


def _is_of(process: psutil.Process, root: Path, postgres: Path) -> bool:
    try:
        # A stack may be stopped by one of its own processes, which then goes on to say so.
        if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
            return False
        # Postgres's children do rename themselves; they work in their data folder.
        return process.environ().get(MARK) == str(root) or (
            _is_postgres(process) and process.cwd() == str(postgres)
        )
    except (psutil.Error, OSError):
        return False


def _is_postgres(process: psutil.Process) -> bool:
    try:
        return bool(process.name() == "postgres")
    except psutil.Error:
        return False


def _command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""
