"""`make demo` keeps what it promises: every check holds, exit code 0, and nothing is left running."""

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.support.guides import ROOT


@pytest.mark.torch
def test_the_demo_passes_and_leaves_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("demo")
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "demo.py"), "--json"],
        # A stack of the caller's must not be touched, so its names are set to what would break.
        env={
            **os.environ,
            "TMPDIR": str(folder),
            "HEADRACE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/x",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["ok"]
    assert result["seconds"] < 120
    steps = {check["step"] for check in result["checks"]}
    promised = {"embedding", "polled", "replayed", "failed", "burst", "bulk", "latency"}
    promised |= {"called_back", "conserved"}
    assert promised <= steps
    assert list(folder.glob("headrace-*")) == []
    assert not [process for process in psutil.process_iter(["cmdline"]) if _names(process, folder)]


def _names(process: psutil.Process, folder: Path) -> bool:
    return any(str(folder) in word for word in process.info["cmdline"] or ())
